"""What a machine is asked about its leases: small programs for a node's own Python, made of files of the collection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyharness import paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from pyharness.verification.node_probe import Nodes

_UTILS = paths.COLLECTION / "plugins" / "module_utils"

_SCRIPT = """
import json
lease = {{"__name__": "lease"}}
exec(compile({source!r}, "lease.py", "exec"), lease)
asked, answers = json.loads({asked!r}), []
try:
    for one in asked["leases"]:
{body}
    print(json.dumps({{"leases": answers, **extra()}}))
except lease["LeaseError"] as error:
    print(json.dumps({{"problem": str(error)}}))
"""
# All of a machine, or none: what was taken before the one that is refused is given back.
TAKE = """
        answers.append(lease["take"](one["file"], one["claim"]))
        if not answers[-1]["taken"]:
            for had in asked["leases"][:len(answers) - 1]:
                lease["release"](had["file"], had["claim"]["run"], had["claim"]["nodes"])
            break
"""
RENEW = """
        answers.append(lease["renew"](one["file"], asked["run"], one["number"], kept=asked["kept"], over=asked["over"]))
"""
RELEASE = """
        answers.append(lease["release"](one["file"], asked["run"], one["nodes"]))
"""
_NOTHING_MORE = """
def extra():
    return {{}}
"""
# After the taking: whatever bears one of these leases now, and is not of this run, is of a run that has lost it.
_MARKED = """
def extra():
    if not answers[-1]["taken"]:
        return {{}}
    state, containers = {{"__name__": "node_state"}}, {{"__name__": "containers"}}
    exec(compile({state!r}, "node_state.py", "exec"), state)
    exec(compile({containers!r}, "containers.py", "exec"), containers)
    marked = [
        {{**found, "lease": state["environment"](found["pid"]).get(state["LEASE_VARIABLE"])}}
        for found in state["run_processes"]()
    ]
    marked += containers["run_containers"]()
    return {{
        "marked": [{{key: found[key] for key in ("run", "node", "lease")}} for found in marked if found["lease"]],
        "shared_memory": sorted(entry["path"] for entry in state["shared_files"]()),
    }}
"""


def ask(nodes: Nodes, node: str, body: str, asked: dict[str, Any], *, marked: bool = False) -> dict[str, Any]:
    """Have one machine do something with its leases, in one process.

    Args:
        nodes: whom to ask.
        node: a node on that machine.
        body: what to do with each lease: TAKE, RENEW or RELEASE.
        asked: its questions; `leases` has one entry for each.
        marked: whether to tell as well what bears these leases, and the shared memory that is there.

    Returns:
        leases (an answer for each), and with `marked` also marked and shared_memory.

    Raises:
        UsageError: a lease cannot be used; the text says which, and what to do.
        NodeError: it could not be asked.
    """
    extra = _MARKED.format(state=_source("node_state"), containers=_source("containers")) if marked else _NOTHING_MORE
    script = (extra if marked else extra.format()) + _SCRIPT.format(
        source=_source("lease"), asked=json.dumps(asked), body=body.strip("\n")
    )
    answer = nodes.run_python(node, script)
    if "problem" in answer:
        raise UsageError(f"{node}: {answer['problem']}")
    return answer


def _source(name: str) -> str:
    return (_UTILS / f"{name}.py").read_text(encoding="utf-8")
