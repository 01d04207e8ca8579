"""The KV cache really moved from prefill to decode, and by which transport.

Two independent witnesses: the engines' own counters, and the kernel's (TCP connections between the two servers'
processes, RDMA ports of their nodes). Both are read before and after the request under test.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.engines.base import Counters
from pyharness.kv_cache import bytes_per_token
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Deployment, Service
    from pyharness.verification.base import Trial

_METRICS_SECONDS = 10.0
# A scheduler writes its counters in its own time: how long to wait for the transfer to show.
_COUNTERS_LATE_SECONDS = 2.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Snapshot:
    """What had been counted at one moment.

    Attributes:
        counters: the engines' counters, by service.
        kernel: the nodes' probes, by node.
    """

    counters: dict[str, Counters]
    kernel: dict[str, dict[str, Any]]


def _servers(deployment: Deployment) -> list[Service]:
    return deployment.of_kind("prefill") + deployment.of_kind("decode")


def _read_counters(trial: Trial) -> dict[str, Counters]:
    result, engine = {}, trial.engine
    for service in _servers(trial.deployment):
        exchange = exercise.get(service.url + engine.metrics_path, _METRICS_SECONDS)
        try:
            usable = exchange.status == 200 and exchange.body
            result[service.name] = engine.counters(exchange.body or "") if usable else Counters(None, None, None, None)
        except ValueError:
            result[service.name] = Counters(None, None, None, None)
    return result


def snapshot(trial: Trial) -> Snapshot:
    """Read all counters, once the one-token request before shows in them or has had the time to.

    Every deployment starts its servers anew, so a first transfer that shows is that request's.
    """
    servers = _servers(trial.deployment)
    deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
    while True:
        counters = _read_counters(trial)
        senders = [counters[service.name].transfers for service in trial.deployment.of_kind("prefill")]
        if any(senders) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return Snapshot(counters, trial.nodes.probe(servers, traffic=True))


def snapshot_after(trial: Trial, before: Snapshot, prompt_tokens: int | None) -> Snapshot:
    """Read all counters after the request, once the transfer shows in them or has had the time to."""
    servers = _servers(trial.deployment)
    expected = expected_bytes(trial.deployment, prompt_tokens)
    deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
    while True:
        counters = _read_counters(trial)
        moved = _moved(before.counters, counters, trial.deployment)
        if (moved is not None and moved >= (expected or 1)) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return Snapshot(counters, trial.nodes.probe(servers, traffic=True))


def expected_bytes(deployment: Deployment, prompt_tokens: int | None) -> int | None:
    """Return the KV cache of the prompt in this model, in bytes; None where the model's shape is not known."""
    if deployment.served.config is None or prompt_tokens is None:
        return None
    return prompt_tokens * bytes_per_token(deployment.served.config)


def _tensor_parallel(deployment: Deployment) -> int:
    """Return over how many ranks a prefill server spreads its KV cache."""
    for service in deployment.of_kind("prefill"):
        if "--tp-size" in service.command[:-1]:
            return int(service.command[service.command.index("--tp-size") + 1])
    return 1


def _is_wrong_amount(deployment: Deployment, moved: int, expected: int) -> bool:
    """Tell whether the bytes that were counted cannot be this prompt's.

    On one rank they are exactly its KV cache, as measured with SGLang 0.5 and Mooncake 0.3. Of several ranks one may be
    counted or all, and with MLA each holds the whole latent cache: then one rank's share is the least there has to be.
    """
    ranks = _tensor_parallel(deployment)
    return moved != expected if ranks == 1 else moved < expected // ranks


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _moved(before: dict[str, Counters], after: dict[str, Counters], deployment: Deployment) -> int | None:
    """Return the bytes that the prefill servers say they have sent in between; None if none of them says."""
    names = [service.name for service in deployment.of_kind("prefill") if service.name in before]
    values = [_difference(before[name].transferred_bytes, after[name].transferred_bytes) for name in names]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def kv_cache_moved(trial: Trial, before: Snapshot, after: Snapshot, prompt_tokens: int | None) -> Evidence:
    """Check that the bytes of this prompt's KV cache moved, no transfer failed, and decode prefilled nothing."""
    deployment = trial.deployment
    expected = expected_bytes(deployment, prompt_tokens)
    moved = _moved(before.counters, after.counters, deployment)
    change = {
        name: {
            "transferred_bytes": _difference(then.transferred_bytes, after.counters[name].transferred_bytes),
            "transfers": _difference(then.transfers, after.counters[name].transfers),
            "failed_transfers": _difference(then.failed_transfers, after.counters[name].failed_transfers),
            "computed_tokens": _difference(then.computed_tokens, after.counters[name].computed_tokens),
        }
        for name, then in before.counters.items()
    }
    evidence = {
        "prompt_tokens": prompt_tokens,
        "bytes_expected": expected,
        "bytes_moved": moved,
        "counters": change,
        "tcp_bytes": tcp_bytes(deployment, before, after),
    }
    for service in deployment.of_kind("decode"):
        computed = change[service.name]["computed_tokens"]
        if computed is None or computed > 0:
            raise CheckFailed(
                f"decode ({service.name} on {service.node}) prefilled {computed} tokens itself, instead of taking the "
                "KV cache from prefill"
                if computed
                else f"decode ({service.name}) does not say how many tokens it prefilled itself",
                evidence,
                hint="a decode server prefills only when it does not disaggregate or has lost the transfer",
            )
    if not moved:
        raise CheckFailed(
            f"no KV cache moved: prefill counted {moved} transferred bytes for this request, and {expected} are this "
            "prompt's",
            evidence,
            hint="the servers answered without Mooncake: see whether both disaggregate",
        )
    if not all(change[service.name]["computed_tokens"] for service in deployment.of_kind("prefill")):
        raise CheckFailed(
            "prefill counted no prefilled token, so decode's zero proves nothing",
            evidence,
            hint="the engine has renamed its counters, or the prompt was cached: see its /metrics",
            class_="test",
        )
    if any(entry["failed_transfers"] for entry in change.values()):
        raise CheckFailed("a transfer failed and was repeated", evidence, hint="see the servers' logs for the transfer")
    if expected is not None and _is_wrong_amount(deployment, moved, expected):
        raise CheckFailed(
            f"{moved} bytes of KV cache moved, and this prompt of {prompt_tokens} tokens has {expected}",
            evidence,
            hint="part of the KV cache was not transferred, or was transferred twice",
        )
    return evidence


def _links(deployment: Deployment, seen: Snapshot) -> dict[tuple[str, int, str, int], tuple[int, int]] | None:
    """Return the TCP connections between prefill's and decode's processes.

    Returns:
        by (prefill's address and port, decode's address and port) the bytes sent by prefill and received by decode;
        connections that end at a port of a service's HTTP server are not the transfer's. None if a node can't tell.
    """
    ends: dict[str, dict[tuple[str, int, str, int], dict[str, Any]]] = {"prefill": {}, "decode": {}}
    http = {(service.address, service.port) for service in deployment.services}
    for service in _servers(deployment):
        connections = seen.kernel[service.node]["services"][service.name]["connections"]
        if connections is None:
            return None
        for entry in connections:
            near, far = (entry["address"], entry["port"]), (entry["remote_address"], entry["remote_port"])
            if near not in http and far not in http:
                key = (*near, *far) if service.kind == "prefill" else (*far, *near)
                ends[service.kind][key] = entry
    return {
        key: (ends["prefill"][key]["bytes_sent"], ends["decode"][key]["bytes_received"])
        for key in ends["prefill"].keys() & ends["decode"].keys()
    }


def tcp_bytes(deployment: Deployment, before: Snapshot, after: Snapshot) -> int | None:
    """Return the bytes that decode received from prefill over TCP in between; None if a node cannot tell."""
    then, now = _links(deployment, before), _links(deployment, after)
    if then is None or now is None:
        return None
    return sum(received - then.get(key, (0, 0))[1] for key, (_sent, received) in now.items())


def _rdma_bytes(deployment: Deployment, before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """Return what RDMA ports of the nodes have carried in between, sent by prefill's and received by decode's."""
    result: dict[str, Any] = {"sent": 0, "received": 0, "active_ports": []}
    for kind, direction in (("prefill", "sent"), ("decode", "received")):
        for service in deployment.of_kind(kind):
            then = {(port["device"], port["port"]): port for port in before.kernel[service.node].get("rdma", [])}
            for port in after.kernel[service.node].get("rdma", []):
                if "ACTIVE" in (port["state"] or ""):
                    result["active_ports"].append(f"{service.node}:{port['device']}/{port['port']}")
                old = then.get((port["device"], port["port"]), {}).get(direction)
                result[direction] += _difference(old, port[direction]) or 0
    return result


def transport_used(
    trial: Trial, before: Snapshot, after: Snapshot, prompt_tokens: int | None
) -> tuple[str | None, list[dict[str, Any]]]:
    """Say which transport carried the KV cache.

    Each transport's claim is what the kernel counted on it in between; what carried at least this prompt's KV cache
    is what was used. Mooncake's own log is not asked: it names what was installed, not what was used.

    Returns:
        "tcp", "rdma" or None (neither carried it, or both did), and the evidence.
    """
    deployment = trial.deployment
    needed = expected_bytes(deployment, prompt_tokens) or 1
    tcp = tcp_bytes(deployment, before, after)
    rdma = _rdma_bytes(deployment, before, after)
    evidence: list[dict[str, Any]] = [
        {"witness": "TCP connections between prefill's and decode's processes (tcp_info)", "bytes": tcp},
        {"witness": "RDMA ports of the nodes (sysfs counters)", **rdma},
        {"witness": "needed", "bytes": needed},
    ]
    by_tcp = tcp is not None and tcp >= needed
    by_rdma = bool(rdma["active_ports"]) and min(rdma["sent"], rdma["received"]) >= needed
    if by_tcp == by_rdma:
        return None, evidence
    return ("tcp" if by_tcp else "rdma"), evidence


def _witnessed(evidence: list[dict[str, Any]]) -> str:
    """Say in one line what each witness has seen."""
    tcp, rdma, needed = evidence
    ports = ", ".join(rdma["active_ports"]) or "none active"
    return (
        f"{tcp['bytes']} bytes over TCP, {rdma['sent']} sent and {rdma['received']} received by RDMA ports ({ports}); "
        f"{needed['bytes']} needed"
    )


def transport_as_asked(used: str | None, evidence: list[dict[str, Any]], requested: str) -> Evidence:
    """Check that the transport that was used is the one that was asked for."""
    found = {"requested": requested, "used": used, "witnesses": evidence}
    if used != requested:
        told = used or f"no transport that accounts for it ({_witnessed(evidence)})"
        raise CheckFailed(
            f"the KV cache went by {told}, and {requested} was asked for",
            found,
            hint=(
                "Mooncake falls back to TCP in silence when it finds no usable RDMA device: see ibv_devinfo"
                if requested == "rdma"
                else "see docs/troubleshooting.md, 'Which transport was used'"
            ),
        )
    return found
