"""After teardown nothing of the run is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.node_probe import Nodes


def nodes_clean(nodes: Nodes, names: list[str], run_id: str, services: list[Service]) -> Evidence:
    """Check for processes (supervisord too) and listening sockets of a run that has been torn down.

    Args:
        nodes: whom to ask.
        names: the nodes of the run.
        run_id: the run.
        services: what it had started, for their ports.
    """
    found = nodes.probe([_gone(service) for service in services], nodes=names, run=run_id)
    left: dict[str, list[dict[str, Any]]] = {}
    for node, answer in found.items():
        processes = list(answer["run_processes"])
        for seen in answer["services"].values():
            owners = [listener["process"] for listener in seen["listeners"] if listener["process"]]
            processes += [owner for owner in owners if owner["run"] == run_id and owner not in processes]
        if processes:
            left[node] = processes
    if left:
        node, processes = next(iter(left.items()))
        first = processes[0]
        raise CheckFailed(
            f"{len(processes)} process(es) of the run are left on {node} after teardown, first: pid {first['pid']} "
            f"({first['service']}): {first['command']}",
            {"left": left},
            hint=f"end them with: python -m pyharness teardown --run {run_id}",
            class_="infrastructure",
        )
    return {"nodes": names, "processes": 0, "ports_checked": sorted({f"{s.address}:{s.port}" for s in services})}


def _gone(service: Service) -> Service:
    """Return the service without its process id: that may be another process's by now."""
    return service.model_copy(update={"pid": 0})
