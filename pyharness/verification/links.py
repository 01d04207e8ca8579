"""What crossed between two services, and by which transport, as the kernels of their nodes count it.

Two witnesses: the TCP connections between the two services' processes, and the RDMA ports of their nodes. Both are read
before and after what is under test (`Nodes.probe` with traffic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

Seen = dict[str, dict[str, Any]]
_Ends = tuple[str, int, str, int]


@dataclass(frozen=True)
class Moved:
    """Bytes that had to go from one service to another.

    Attributes:
        source: where they lay.
        target: where they had to go.
        size: how many.
    """

    source: Service
    target: Service
    size: int


def look(trial: Trial, services: Iterable[Service]) -> Seen:
    """Read what the nodes' kernels have counted for some services so far."""
    return trial.nodes.probe(services, traffic=True)


def _connections(trial: Trial, service: Service, seen: Seen) -> dict[_Ends, dict[str, Any]] | None:
    """Return a service's connections by both their ends, its own first; those to an HTTP door are left out."""
    found = seen[service.node]["services"][service.name]["connections"]
    if found is None:
        return None
    doors = {(other.address, other.port) for other in trial.deployment.services}
    ends = {(c["address"], c["port"], c["remote_address"], c["remote_port"]): c for c in found}
    return {key: c for key, c in ends.items() if key[:2] not in doors and key[2:] not in doors}


def tcp_bytes(trial: Trial, moved: Moved, before: Seen, after: Seen) -> int | None:
    """Return the bytes that the target's processes received from the source's over TCP in between.

    Returns:
        None if a node cannot tell.
    """
    received = {}
    for seen in (before, after):
        near, far = _connections(trial, moved.target, seen), _connections(trial, moved.source, seen)
        if near is None or far is None:
            return None
        both = [key for key in near if (*key[2:], *key[:2]) in far]
        received[id(seen)] = {key: int(near[key]["bytes_received"]) for key in both}
    then, now = received[id(before)], received[id(after)]
    return sum(count - then.get(key, 0) for key, count in now.items())


def _ports(service: Service, direction: str, before: Seen, after: Seen) -> tuple[int, list[str]]:
    """Return what the RDMA ports of a service's node have carried in one direction, and which of them are active."""
    then = {(port["device"], port["port"]): port for port in before[service.node].get("rdma", [])}
    total, active = 0, []
    for port in after[service.node].get("rdma", []):
        if "ACTIVE" in (port["state"] or ""):
            active.append(f"{service.node}:{port['device']}/{port['port']}")
        old, new = then.get((port["device"], port["port"]), {}).get(direction), port[direction]
        total += 0 if old is None or new is None else new - old
    return total, active


def transport_of(
    trial: Trial, moves: Iterable[Moved], before: Seen, after: Seen
) -> tuple[str | None, list[dict[str, Any]]]:
    """Say which transport carried what had to move.

    A transport's claim is what the kernels counted on it in between. What carried at least all that had to move, in
    every direction, is what was used. Mooncake's log is not asked: it names what was installed, and it falls back to
    TCP in silence.

    Returns:
        "tcp", "rdma" or None (neither did, or both), and the evidence: one entry for each direction.
    """
    evidence: list[dict[str, Any]] = []
    for moved in moves:
        sent, active = _ports(moved.source, "sent", before, after)
        received, _ = _ports(moved.target, "received", before, after)
        evidence.append(
            {
                "witness": "TCP connections between the processes (tcp_info), RDMA ports of the nodes (sysfs counters)",
                "from": moved.source.name,
                "to": moved.target.name,
                "needed": moved.size,
                "tcp_bytes": tcp_bytes(trial, moved, before, after),
                "rdma_sent": sent,
                "rdma_received": received,
                "active_ports": active,
            }
        )
    told = [entry for entry in evidence if entry["needed"]]
    by_tcp = bool(told) and all((entry["tcp_bytes"] or 0) >= entry["needed"] for entry in told)
    by_rdma = bool(told) and all(
        entry["active_ports"] and min(entry["rdma_sent"], entry["rdma_received"]) >= entry["needed"] for entry in told
    )
    if by_tcp == by_rdma:
        return None, evidence
    return ("tcp" if by_tcp else "rdma"), evidence


def as_asked(used: str | None, evidence: list[dict[str, Any]], requested: str) -> Evidence:
    """Check that the transport that was used is the one that was asked for."""
    found = {"requested": requested, "used": used, "witnesses": evidence}
    if used == requested:
        return found
    witnessed = "; ".join(
        f"{entry['from']} to {entry['to']}: {entry['tcp_bytes']} bytes over TCP, {entry['rdma_sent']} sent and "
        f"{entry['rdma_received']} received by RDMA ports ({', '.join(entry['active_ports']) or 'none active'}), "
        f"{entry['needed']} needed"
        for entry in evidence
    )
    raise CheckFailed(
        f"the bytes went by {used or 'no transport that accounts for it'}, and {requested} was asked for: {witnessed}",
        found,
        hint=(
            "Mooncake falls back to TCP in silence when it finds no usable RDMA device: see ibv_devinfo"
            if requested == "rdma"
            else "see docs/troubleshooting.md, 'Which transport was used'"
        ),
    )
