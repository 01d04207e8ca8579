"""Many servers behind one router: each of them carried its part, and what all carried together adds up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pyharness.verification import answer, blame, transfer, wires
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Deployment
    from pyharness.engines.base import Counters
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial
    from pyharness.verification.wires import Snapshot

# A server counts a request in its own time: how long to wait until the last one shows.
_COUNTERS_LATE_SECONDS = 2.0
_POLL_SECONDS = 0.1


def ask(trial: Trial, requests: int) -> list[Exchange]:
    """Send the request under test so many times, several of them at any moment."""
    request = trial.case.asked
    url = trial.deployment.entry + request.path
    with ThreadPoolExecutor(min(requests, int(trial.workload["side_by_side"]))) as pool:
        return list(pool.map(lambda _number: trial.send(url, request.body, request.timeout_seconds), range(requests)))


def answers_correct(trial: Trial, done: list[Exchange]) -> Evidence:
    """Check every answer; the first wrong one is told of."""
    request, reference = trial.case.asked, trial.deployment.reference
    evidence: Evidence = {"requests": len(done)}
    for number, exchange in enumerate(done, start=1):
        blame.failed_request(trial, exchange)
        try:
            one = answer.answer_correct(exchange, trial.engine, reference.answer, reference.method, request.pattern)
        except CheckFailed as failed:
            raise CheckFailed(
                f"request {number} of {len(done)}: {failed}",
                {**evidence, "wrong": failed.evidence},
                hint=failed.hint,
                class_=failed.class_,
                spoils_judgement=failed.spoils_judgement,
            ) from failed
        evidence.setdefault("first", one)
    return {**evidence, "slowest_seconds": round(max(exchange.seconds for exchange in done), 3)}


def idle(trial: Trial, before: dict[str, Counters], after: dict[str, Counters]) -> list[str]:
    """Return the servers that have finished no request in between, as far as their own count says."""
    servers = trial.deployment.of_kind("prefill") + trial.deployment.of_kind("decode")
    return [
        service.name
        for service in servers
        if not wires.difference(before[service.name].requests or 0, after[service.name].requests)
    ]


def settled(trial: Trial, before: dict[str, Counters], requests: int) -> dict[str, Counters]:
    """Read all counters, once they show so many requests on each side or have had the time to."""
    deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
    while True:
        counters = transfer.read_counters(trial)
        seen = [
            sum((counters[one.name].requests or 0) - (before[one.name].requests or 0) for one in of_kind)
            for of_kind in (trial.deployment.of_kind("prefill"), trial.deployment.of_kind("decode"))
        ]
        if min(seen) >= requests or time.monotonic() > deadline:
            return counters
        time.sleep(_POLL_SECONDS)


def every_server_took_part(trial: Trial, before: Snapshot, after: Snapshot, requests: int) -> Evidence:
    """Check that each server has finished at least one of the requests, and all together every one of them."""
    counted = {
        name: wires.difference(then.requests or 0, after.counters[name].requests)
        for name, then in before.counters.items()
    }
    evidence: Evidence = {"requests": requests, "finished": counted}
    silent = [name for name, count in counted.items() if count is None]
    if silent:
        raise CheckFailed(
            f"{', '.join(silent)} does not say how many requests it has finished",
            evidence,
            hint="see the servers' /metrics: the engine may have renamed its counters",
        )
    unused = [name for name, count in counted.items() if not count]
    if unused:
        raise CheckFailed(
            f"{len(unused)} of {len(counted)} servers have finished none of {requests} requests: {_some(unused)}",
            evidence,
            hint="the router does not send them any: see its log for what it holds for their health",
        )
    for kind in ("prefill", "decode"):
        finished = sum(counted[service.name] or 0 for service in trial.deployment.of_kind(kind))
        if finished != requests:
            raise CheckFailed(
                f"the {kind} servers have finished {finished} requests, and {requests} were sent",
                evidence,
                hint="a request was repeated, or others reach the servers too: see the router's log",
            )
    return evidence


def kv_cache_moved(
    trial: Trial, before: Snapshot, after: Snapshot, prompt_tokens: int | None, requests: int
) -> Evidence:
    """Check that each prefill server sent and each decode server received the KV cache of its own requests.

    Prefill's bytes are what it counts. Decode's are what the kernel counted on its connections from prefill servers,
    where the transport is TCP: it counts none itself.
    """
    deployment = trial.deployment
    each = transfer.expected_bytes(deployment, prompt_tokens, transfer.page_size(deployment, after))
    received = _received(deployment, before, after)
    servers: dict[str, dict[str, Any]] = {}
    for name, then in before.counters.items():
        now = after.counters[name]
        servers[name] = {
            "requests": wires.difference(then.requests or 0, now.requests),
            "transferred_bytes": wires.difference(then.transferred_bytes, now.transferred_bytes),
            "failed_transfers": wires.difference(then.failed_transfers, now.failed_transfers),
            "computed_tokens": wires.difference(then.computed_tokens, now.computed_tokens),
            "received_bytes": (received or {}).get(name),
        }
    evidence: Evidence = {"prompt_tokens": prompt_tokens, "bytes_each": each, "requests": requests, "servers": servers}
    hint = "see the servers' logs for their transfers"
    for service in deployment.of_kind("decode"):
        seen = servers[service.name]
        if seen["computed_tokens"] != 0:
            raise CheckFailed(
                f"decode ({service.name} on {service.node}) prefilled {seen['computed_tokens']} tokens itself, instead "
                "of taking the KV cache from prefill",
                evidence,
                hint="a decode server prefills only when it does not disaggregate or has lost the transfer",
            )
        needed = (each or 1) * (seen["requests"] or 0)
        if deployment.transport.requested == "tcp" and received is not None and seen["received_bytes"] < needed:
            raise CheckFailed(
                f"decode ({service.name} on {service.node}) received {seen['received_bytes']} bytes from prefill "
                f"servers for {seen['requests']} requests, and {needed} are their KV cache",
                evidence,
                hint=hint,
            )
    for service in deployment.of_kind("prefill"):
        seen = servers[service.name]
        needed = (each or 0) * (seen["requests"] or 0)
        if not seen["transferred_bytes"] or (needed and seen["transferred_bytes"] != needed):
            raise CheckFailed(
                f"prefill ({service.name} on {service.node}) counted {seen['transferred_bytes']} transferred bytes for "
                f"{seen['requests']} requests, and {needed} are their KV cache",
                evidence,
                hint=hint,
            )
    failed = [name for name, seen in servers.items() if seen["failed_transfers"]]
    if failed:
        raise CheckFailed(f"transfers failed and were repeated: {_some(failed)}", evidence, hint=hint)
    return evidence


def _received(deployment: Deployment, before: Snapshot, after: Snapshot) -> dict[str, int] | None:
    """Return by decode server what it received from prefill servers over TCP in between; None if a node cannot tell."""
    result: dict[str, int] = {}
    for service in deployment.of_kind("decode"):
        alone = deployment.model_copy(
            update={"services": [one for one in deployment.services if one.kind != "decode" or one is service]}
        )
        count = wires.tcp_bytes(alone, before, after)
        if count is None:
            return None
        result[service.name] = count
    return result


def _some(names: list[str]) -> str:
    """Name a few of many."""
    shown = 5
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
