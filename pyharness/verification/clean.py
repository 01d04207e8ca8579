"""After teardown nothing of the run is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyharness.deployment import Service
    from pyharness.verification.node_probe import Nodes


def nodes_clean(
    nodes: Nodes,
    names: list[str],
    run_id: str,
    services: list[Service],
    before: Mapping[str, list[str]] | None = None,
) -> Evidence:
    """Check for processes (supervisord too), containers, sockets and shared memory of a run that has been torn down.

    Before the run its ports were free and during the run they were its own, so whoever still listens there is taken
    for a part of it that has lost its mark, unless it has the mark of another run.

    A file in shared memory is the run's if one of its services had it mapped when it was ready, and nobody has it
    mapped now. What else is new there is told in the evidence: it may be anybody's.

    Args:
        nodes: whom to ask.
        names: the nodes of the run.
        run_id: the run.
        services: what it had started, for their ports and their shared memory.
        before: by node the files below /dev/shm before the run, where that is known.
    """
    found = nodes.probe([_gone(service) for service in services], nodes=names, run=run_id)
    left: dict[str, list[dict[str, Any]]] = {}
    for node, answer in found.items():
        processes = list(answer["run_processes"]) + [_container(entry) for entry in answer["run_containers"]]
        for seen in answer["services"].values():
            owners = [listener["process"] or _unknown(listener) for listener in seen["listeners"]]
            processes += [owner for owner in owners if owner["run"] in (run_id, None) and owner not in processes]
        noted = {path for service in services if service.node == node for path in service.shared_memory}
        in_memory = answer["shared_memory"]
        processes += [_file(entry) for entry in in_memory if entry["path"] in noted and not entry["mapped"]]
        if processes:
            left[node] = processes
    if left:
        node, processes = next(iter(left.items()))
        first = processes[0]
        raise CheckFailed(
            f"{len(processes)} process(es) of the run are left on {node} after teardown, first: pid {first['pid']} "
            f"({first['service']}): {first['command']}",
            {"left": left},
            hint=f"end them with: python -m pyharness teardown --run {run_id}"
            + ("" if first["run"] else f"; one without the run's mark has to be ended on {node} by hand"),
            class_="infrastructure",
            unfit_node=node,
        )
    return {
        "nodes": names,
        "processes": 0,
        "ports_checked": sorted({f"{s.address}:{s.port}" for s in services}),
        "shared_memory_checked": sorted({path for s in services for path in s.shared_memory}),
        "new_shared_memory": {
            node: [entry["path"] for entry in answer["shared_memory"] if entry["path"] not in (before or {})[node]]
            for node, answer in found.items()
            if node in (before or {})
        },
    }


def _unknown(listener: dict[str, Any]) -> dict[str, Any]:
    """Describe the owner of a socket whose process the node's user may not see."""
    held = f"holds {listener['address']}:{listener['port']}, seen by no process of this user"
    return {"pid": None, "run": None, "service": None, "command": held}


def _file(entry: dict[str, Any]) -> dict[str, Any]:
    """Describe shared memory that is left as if it were a process: it has none any more."""
    held = f"{entry['bytes']} bytes of shared memory in {entry['path']}, which no process has mapped"
    return {"pid": None, "run": None, "service": None, "command": held}


def _container(entry: dict[str, Any]) -> dict[str, Any]:
    """Describe a container that is left as if it were a process: one that is not running has none."""
    told = f"container {entry['name']} ({entry['state']})"
    return {"pid": None, "run": entry["run"], "service": entry["service"], "command": told}


def _gone(service: Service) -> Service:
    """Return the service without its process id: that may be another process's by now."""
    return service.model_copy(update={"pid": 0})
