"""The KV cache really moved from prefill to decode, and by which transport.

Two independent witnesses: the engines' own counters, and the kernel's (TCP connections between the two servers'
processes, RDMA ports of their nodes). Both are read before and after the request under test.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.engines.base import Counters
from pyharness.kv_cache import Moved, moved_bytes
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.wires import Snapshot, difference, probe, rdma_bytes, tcp_bytes

if TYPE_CHECKING:
    from pyharness.deployment import Deployment, Service
    from pyharness.verification.base import Trial

_METRICS_SECONDS = 10.0
# A scheduler writes its counters in its own time: how long to wait for the transfer to show.
_COUNTERS_LATE_SECONDS = 2.0
_POLL_SECONDS = 0.1


def _servers(deployment: Deployment) -> list[Service]:
    return deployment.of_kind("prefill") + deployment.of_kind("decode")


def read_counters(trial: Trial) -> dict[str, Counters]:
    """Read what each server says that it has done so far."""
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
    deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
    while True:
        counters = read_counters(trial)
        senders = [counters[service.name].transfers for service in trial.deployment.of_kind("prefill")]
        if any(senders) or _taken(counters, trial.deployment) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return Snapshot(counters, probe(trial))


def snapshot_after(trial: Trial, before: Snapshot, prompt_tokens: int | None) -> Snapshot:
    """Read all counters after the request, once the transfer shows in them or has had the time to."""
    expected = expected_bytes(trial.deployment, prompt_tokens, page_size(trial.deployment, before))
    deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
    while True:
        counters = read_counters(trial)
        moved = _moved(before.counters, counters, trial.deployment)
        taken = _taken(counters, trial.deployment) - _taken(before.counters, trial.deployment)
        shows = taken >= (prompt_tokens or 1) if moved is None else moved >= (expected or 1)
        if shows or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return Snapshot(counters, probe(trial))


def _taken(counters: dict[str, Counters], deployment: Deployment) -> int:
    """Return the prompt tokens that the decode servers have taken from prefill, as far as they say."""
    return sum(counters[service.name].external_tokens or 0 for service in deployment.of_kind("decode"))


def expected_bytes(deployment: Deployment, prompt_tokens: int | None, page_size: int = 1) -> int | None:
    """Return what prefill has to count for the prompt, in bytes; None where the model's shape is not known.

    Args:
        deployment: the model, and servers with their ranks.
        prompt_tokens: length of the prompt; None where it is not known.
        page_size: tokens that are moved together: the last page moves whole.
    """
    moved = _moving(deployment, prompt_tokens, page_size)
    return moved.counted if moved else None


def _moving(deployment: Deployment, prompt_tokens: int | None, page_size: int) -> Moved | None:
    if deployment.served.config is None or prompt_tokens is None:
        return None
    tokens = -(-prompt_tokens // page_size) * page_size
    prefill, decode = _tensor_parallel(deployment, "prefill"), _tensor_parallel(deployment, "decode")
    return moved_bytes(deployment.served.config, tokens, prefill, decode)


def _tensor_parallel(deployment: Deployment, kind: str) -> int:
    """Return over how many ranks the servers of a kind spread their KV cache."""
    for service in deployment.of_kind(kind):
        for flag in ("--tp-size", "--tensor-parallel-size"):
            if flag in service.command[:-1]:
                return int(service.command[service.command.index(flag) + 1])
    return 1


def page_size(deployment: Deployment, seen: Snapshot) -> int:
    """Return how many tokens prefill moves together; 1 where it does not say."""
    sizes = [seen.counters[service.name].page_size for service in deployment.of_kind("prefill")]
    return max((size for size in sizes if size), default=1)


def _moved(before: dict[str, Counters], after: dict[str, Counters], deployment: Deployment) -> int | None:
    """Return the bytes that the prefill servers say they have sent in between; None if none of them says."""
    names = [service.name for service in deployment.of_kind("prefill") if service.name in before]
    values = [difference(before[name].transferred_bytes, after[name].transferred_bytes) for name in names]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def kv_cache_moved(trial: Trial, before: Snapshot, after: Snapshot, prompt_tokens: int | None) -> Evidence:
    """Check that the bytes of this prompt's KV cache moved, no transfer failed, and decode prefilled nothing."""
    deployment = trial.deployment
    expected = expected_bytes(deployment, prompt_tokens, page_size(deployment, after))
    moved = _moved(before.counters, after.counters, deployment)
    change = {
        name: {
            "transferred_bytes": difference(then.transferred_bytes, after.counters[name].transferred_bytes),
            "transfers": difference(then.transfers, after.counters[name].transfers),
            "failed_transfers": difference(then.failed_transfers, after.counters[name].failed_transfers),
            "computed_tokens": difference(then.computed_tokens, after.counters[name].computed_tokens),
        }
        for name, then in before.counters.items()
    }
    evidence = {
        "prompt_tokens": prompt_tokens,
        "ranks": {kind: _tensor_parallel(deployment, kind) for kind in ("prefill", "decode")},
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
    if expected is not None and moved != expected:
        raise CheckFailed(
            f"{moved} bytes of KV cache moved, and this prompt of {prompt_tokens} tokens has {expected}",
            evidence,
            hint="part of the KV cache was not transferred, or was transferred twice",
        )
    return evidence


def transport_used(
    trial: Trial, before: Snapshot, after: Snapshot, prompt_tokens: int | None, requests: int = 1
) -> tuple[str | None, list[dict[str, Any]]]:
    """Say which transport carried the KV cache.

    Each transport's claim is what the kernel counted on it in between; what carried at least this prompt's KV cache
    is what was used. Mooncake's own log is not asked: it names what was installed, not what was used.

    Args:
        trial: whose servers.
        before: what had been counted before.
        after: what has been counted since.
        prompt_tokens: length of the prompt.
        requests: how many times it was asked in between.

    Returns:
        "tcp", "rdma" or None (neither carried it, or both did), and the evidence.
    """
    deployment = trial.deployment
    moving = _moving(deployment, prompt_tokens, page_size(deployment, after))
    needed = (moving.carried * requests if moving else 0) or 1
    tcp = tcp_bytes(deployment, before, after)
    rdma = rdma_bytes(deployment, before, after)
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


__all__ = [
    "Snapshot",
    "expected_bytes",
    "kv_cache_moved",
    "page_size",
    "read_counters",
    "snapshot",
    "snapshot_after",
    "tcp_bytes",
    "transport_as_asked",
    "transport_used",
]
