"""What a whole run does with the leases of its nodes, in a world without Ansible or nodes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import lease
from pyharness import lifecycle
from pyharness.lease import LeaseHeld, Leases
from pyharness.playbook import Outcome, TaskFailure
from pyharness.verification.node_probe import NodeError
from tests.unit.world import DEPLOYS, World

if TYPE_CHECKING:
    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CLAIM: dict[str, Any] = {"test_case": "test_x", "holder": "you@there, pid 2,", "process": ""}
CLAIM |= {"ttl_seconds": 60.0, "expected_seconds": None, "dead": []}


def file(world: World, node: str) -> str:
    return lease.path(str(world.results.parent / "leases"), node)


def claim(world: World, node: str, run: str, **changes: Any) -> dict[str, Any]:
    return lease.take(file(world, node), {**CLAIM, "name": node, "nodes": [node], "run": run, **changes})


def entries(world: World) -> list[dict[str, Any]]:
    found = [lease.read(file(world, node)) for node in ("one", "two")]
    return [entry or {} for entry in found]


def checks(report: Report) -> list[tuple[str, str]]:
    return [(failure.check, failure.class_) for failure in report.failures]


def test_a_run_starts_things_under_its_leases_and_gives_them_back(world: World) -> None:
    during: list[str | None] = []
    world.on["answer_correct"] = lambda: during.extend(entry["run"] for entry in entries(world))
    report = world.live()
    assert report.verdict == "pass"
    assert set(during) == {report.run_id}
    given = world.variables[DEPLOYS[0]]["disagg_leases"]
    assert given == {
        node: {"file": file(world, node), "number": entry["number"]}
        for node, entry in zip(("one", "two"), entries(world), strict=True)
    }
    assert [entry["run"] for entry in entries(world)] == [None, None]


def test_nodes_that_another_run_has_are_not_touched(world: World) -> None:
    claim(world, "two", "theirs")
    with pytest.raises(LeaseHeld, match=r"^two is held by run theirs \(test_x\) of you@there, pid 2, since "):
        world.live()
    assert world.played == []
    assert world.written("test_results.json")["status"] == "Fail"
    assert [entry["run"] for entry in entries(world)] == [None, "theirs"]


def test_what_the_dead_have_left_is_taken_down_first_and_by_the_names_that_they_had(world: World) -> None:
    claim(world, "two", "dead", nodes=["zwei"])
    lease.renew(file(world, "two"), "dead", claim(world, "two", "dead")["entry"]["number"], over=True)
    report = world.live()
    assert report.verdict == "pass"
    assert world.played[:2] == ["dead-run-teardown-0", "provision"]
    given = world.variables["dead-run-teardown-0"]
    assert (given["disagg_run"], given["disagg_run_names"]) == ("dead", {"two": ["zwei"]})
    assert given["disagg_keep_lease"] is False
    assert given["disagg_log_archive"] == "", "its logs are not this run's"
    assert [phase.name for phase in report.phases][:2] == ["clean up", "provision"]


def test_a_lease_that_is_lost_ends_the_run_and_is_its_first_cause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Leases] = []

    def make(*arguments: Any, **more: Any) -> Leases:
        made.append(Leases(*arguments, **more))
        return made[-1]

    def lose() -> None:
        entry = entries(world)[0]
        changed = {**entry, "run": "theirs", "number": entry["number"] + 1}
        with Path(file(world, "one")).open("r+", encoding="utf-8") as stream:
            stream.write(json.dumps(changed).ljust(4096))
        deadline = time.monotonic() + 20.0
        while not made[0].lost:
            assert time.monotonic() < deadline, "the loss was not noticed within 20 s"
            time.sleep(0.01)  # the poll interval

    monkeypatch.setattr(lifecycle.run, "Leases", make)
    world.on["verify"] = lose
    report = world.live(extra_vars={"disagg_lease_ttl": 1.2})
    assert report.verdict == "error"
    assert checks(report)[0] == ("lease", "infrastructure")
    assert report.failures[0].evidence.startswith("lease lost: one is held by run theirs (test_1p1d_erdma) of ")
    assert world.played[-1] == "teardown", "what is its own goes"
    assert DEPLOYS[1] not in world.played, "nothing more is begun"
    assert entries(world)[0]["run"] == "theirs"


def test_what_is_left_up_keeps_its_leases(world: World) -> None:
    report = world.live(keep=True)
    assert [(entry["run"], entry["kept"]) for entry in entries(world)] == [(report.run_id, True)] * 2


def test_a_node_that_cannot_be_asked_ends_the_run_before_anything_is_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_world: World, _node: str, _script: str) -> dict[str, Any]:
        raise NodeError("two", "ssh: connect to host 192.0.2.1 port 22: Connection refused")

    monkeypatch.setattr(World, "run_python", refuse)
    report = world.live()
    assert world.played == []
    failure = report.failures[0]
    assert (failure.class_, failure.unfit_node) == ("infrastructure", "two")
    assert failure.evidence == "two cannot be reached: the host is up, and nothing listens on port 22"
    assert failure.rule == "ansible.unreachable"
    assert failure.hint.startswith("start sshd there")


def test_nodes_that_could_not_be_cleaned_pass_on_at_once_to_who_cleans_them(world: World) -> None:
    failed = TaskFailure(node="two", task="Prove that nothing is left", role="", message="two: pid 7 cannot be ended")
    world.outcomes["teardown"] = Outcome("failed", [failed], "", 0.1)
    first = world.live()
    assert first.verdict == "error"
    assert [lease.state(entry) for entry in entries(world)] == ["expired", "expired"]
    world.outcomes.clear()
    world.played.clear()
    assert world.live().verdict == "pass"
    assert world.variables["dead-run-teardown-0"]["disagg_run"] == first.run_id
