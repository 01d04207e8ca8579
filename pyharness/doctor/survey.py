"""Have Ansible look at the nodes, and read what it left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import temporary
from pyharness.errors import UsageError
from pyharness.playbook import PlaybookRunner, error_line

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.case import TestCase
    from pyharness.playbook import TaskFailure

# Nodes are looked at side by side; a node that does not answer takes ssh's ten seconds.
_SECONDS = 180


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        documents: by node what playbooks/doctor.yml wrote down.
        failures: the task that failed on each of the other nodes.
    """

    documents: dict[str, Any]
    failures: list[TaskFailure]


def look(inventory: Path, case: TestCase | None, extra: dict[str, Any]) -> Survey:
    """Look at the nodes of an inventory; at those of a test case if one is named, and for what it needs.

    Args:
        inventory: its path.
        case: the test case.
        extra: further variables for the playbook.

    Raises:
        UsageError: Ansible could not even begin.
    """
    variables: dict[str, Any] = {}
    if case is not None:
        wants: dict[str, Any] = {
            "engine": case.engine,
            "models": case.models,
            "ports": sorted(case.fixed_ports.values()),
            "transport": case.transport,
        }
        variables = {
            "disagg_hosts": ":".join(case.nodes),
            "doctor_case": {**wants, "gpus": case.gpus.model_dump(exclude_none=True)},
        }
    return _play(inventory, {**variables, **extra}, "look")


def release(inventory: Path, node: str, extra: dict[str, Any]) -> Survey:
    """Release a node from quarantine.

    Args:
        inventory: its path.
        node: the node's name in it.
        extra: further variables for the playbook.

    Raises:
        UsageError: Ansible could not even begin, as when there is no such node.
    """
    return _play(inventory, {**extra, "disagg_hosts": node}, "release")


def _play(inventory: Path, variables: dict[str, Any], tag: str) -> Survey:
    with temporary.folder("doctor") as folder:
        found = folder / "found"
        found.mkdir()
        runner = PlaybookRunner(inventory, folder, lambda: False)
        given = {**variables, "doctor_dir": str(found)}
        # Patient: what is wrong with one node says nothing of the next.
        outcome = runner.run("doctor.yml", given, label="doctor", tags=tag, timeout=_SECONDS, patient=True)
        documents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(found.glob("*.json"))}
    if outcome.status == "timeout":
        raise UsageError(f"-i {inventory}: looking at the nodes took over {_SECONDS} s; see which of them is slow")
    if not documents and not outcome.failures:
        hosts = variables.get("disagg_hosts", "all")
        said = error_line(outcome.output)
        raise UsageError(
            f"-i {inventory}: it has no node called {hosts}; see: ansible-inventory -i {inventory} --graph"
            if outcome.ok or "Could not match supplied host pattern" in said
            else f"-i {inventory}: {said}"
        )
    return Survey(documents, outcome.failures)
