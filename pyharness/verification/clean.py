"""After teardown nothing of the run is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.node_probe import Nodes


def nodes_clean(nodes: Nodes, names: list[str], run_id: str, services: list[Service]) -> Evidence:
    """Check for processes (supervisord too), containers and listening sockets of a run that has been torn down.

    Before the run its ports were free and during the run they were its own, so whoever still listens there is taken
    for a part of it that has lost its mark, unless it has the mark of another run.

    Args:
        nodes: whom to ask.
        names: the nodes of the run.
        run_id: the run.
        services: what it had started, for their ports.
    """
    found = nodes.probe([_gone(service) for service in services], nodes=names, run=run_id)
    left: dict[str, list[dict[str, Any]]] = {}
    for node, answer in found.items():
        processes = list(answer["run_processes"]) + [_container(entry) for entry in answer["run_containers"]]
        for seen in answer["services"].values():
            owners = [listener["process"] or _unknown(listener) for listener in seen["listeners"]]
            processes += [owner for owner in owners if owner["run"] in (run_id, None) and owner not in processes]
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
    return {"nodes": names, "processes": 0, "ports_checked": sorted({f"{s.address}:{s.port}" for s in services})}


def _unknown(listener: dict[str, Any]) -> dict[str, Any]:
    """Describe the owner of a socket whose process the node's user may not see."""
    held = f"holds {listener['address']}:{listener['port']}, seen by no process of this user"
    return {"pid": None, "run": None, "service": None, "command": held}


def _container(entry: dict[str, Any]) -> dict[str, Any]:
    """Describe a container that is left as if it were a process: one that is not running has none."""
    told = f"container {entry['name']} ({entry['state']})"
    return {"pid": None, "run": entry["run"], "service": entry["service"], "command": told}


def _gone(service: Service) -> Service:
    """Return the service without its process id: that may be another process's by now."""
    return service.model_copy(update={"pid": 0})
