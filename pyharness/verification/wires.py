"""What the kernels of the nodes have counted between two kinds of servers: TCP connections, RDMA ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyharness.deployment import Deployment
    from pyharness.engines.base import Counters
    from pyharness.verification.base import Trial

# The kinds of services that send and receive.
Way = tuple[str, str]
KV_CACHE: Way = ("prefill", "decode")
# Who sends or receives something in any case that is declared.
_WATCHED = ("prefill", "decode", "encoder")


@dataclass(frozen=True)
class Snapshot:
    """What had been counted at one moment.

    Attributes:
        counters: the engines' counters, by service.
        kernel: the nodes' probes, by node.
    """

    counters: dict[str, Counters]
    kernel: dict[str, dict[str, Any]]


def probe(trial: Trial) -> dict[str, dict[str, Any]]:
    """Ask the kernels of the nodes what servers' processes and RDMA ports have carried."""
    watched = [service for kind in _WATCHED for service in trial.deployment.of_kind(kind)]
    return trial.nodes.probe(watched, traffic=True)


def difference(before: int | None, after: int | None) -> int | None:
    """Return what was counted in between; None if one of the two is not known."""
    return None if before is None or after is None else after - before


def _links(deployment: Deployment, seen: Snapshot, way: Way) -> dict[tuple[str, int, str, int], tuple[int, int]] | None:
    """Return the TCP connections between the processes of two kinds of servers, such as prefill's and decode's.

    Returns:
        by (the sender's address and port, the receiver's address and port) the bytes sent by the one and received by
        the other; connections that end at a port of a service's HTTP server are not the transfer's. None if a node
        can't tell.
    """
    sender, receiver = way
    ends: dict[str, dict[tuple[str, int, str, int], dict[str, Any]]] = {sender: {}, receiver: {}}
    http = {(service.address, service.port) for service in deployment.services}
    for service in deployment.of_kind(sender) + deployment.of_kind(receiver):
        connections = seen.kernel[service.node]["services"][service.name]["connections"]
        if connections is None:
            return None
        for entry in connections:
            near, far = (entry["address"], entry["port"]), (entry["remote_address"], entry["remote_port"])
            if near not in http and far not in http:
                key = (*near, *far) if service.kind == sender else (*far, *near)
                ends[service.kind][key] = entry
    return {
        key: (ends[sender][key]["bytes_sent"], ends[receiver][key]["bytes_received"])
        for key in ends[sender].keys() & ends[receiver].keys()
    }


def tcp_bytes(deployment: Deployment, before: Snapshot, after: Snapshot, way: Way = KV_CACHE) -> int | None:
    """Return the bytes that decode received from prefill over TCP in between; None if a node cannot tell.

    Args:
        deployment: the servers.
        before: what had been counted before.
        after: what has been counted since.
        way: other kinds of servers than prefill and decode: who sends, who receives.
    """
    then, now = _links(deployment, before, way), _links(deployment, after, way)
    if then is None or now is None:
        return None
    return sum(received - then.get(key, (0, 0))[1] for key, (_sent, received) in now.items())


def rdma_bytes(deployment: Deployment, before: Snapshot, after: Snapshot, way: Way = KV_CACHE) -> dict[str, Any]:
    """Return what RDMA ports of the nodes have carried in between, sent by the sender's and received by the other's."""
    result: dict[str, Any] = {"sent": 0, "received": 0, "active_ports": []}
    for kind, direction in zip(way, ("sent", "received"), strict=True):
        for service in deployment.of_kind(kind):
            then = {(port["device"], port["port"]): port for port in before.kernel[service.node].get("rdma", [])}
            for port in after.kernel[service.node].get("rdma", []):
                if "ACTIVE" in (port["state"] or ""):
                    result["active_ports"].append(f"{service.node}:{port['device']}/{port['port']}")
                old = then.get((port["device"], port["port"]), {}).get(direction)
                result[direction] += difference(old, port[direction]) or 0
    return result
