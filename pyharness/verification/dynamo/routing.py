"""Where a router sends requests: in turns, or to who holds the beginning of the prompt; and how evenly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, load, metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial
    from pyharness.verification.dynamo.asking import Reply

_ROUTED = "dynamo_component_router_requests_total"
# A request is counted a moment after its client has the answer.
_LATE_SECONDS = 3.0
_HINT = "the variant's router_mode is the frontend's --router-mode: see its command in deployment.json"


def asked_in_groups(trial: Trial, settled: Callable[[], object]) -> list[list[Reply]]:
    """Ask for prompts that share a beginning: each group's first, and when their blocks are known, the others in turn.

    Args:
        trial: whose router.
        settled: waits until the router can know what the first ones have left in the caches.

    Raises:
        CheckFailed: one was not answered.
    """
    workload = trial.workload
    groups, rounds = range(int(workload["prefix_groups"])), int(workload["prefix_requests"])

    def ask(group: int, place: int) -> Reply:
        beginning = asking.prompt(f"prefix {group}", int(workload["prefix_tokens"]))
        tail = asking.prompt(f"tail {group} {place}", int(workload["tail_tokens"]))
        return asking.reply(asking.ask(trial, beginning + tail, int(workload["answer_tokens"])))

    first = asking.side_by_side(lambda group: ask(group, 0), groups, len(groups))
    settled()
    # One at a time: what the router thinks of the load of its workers does not come into it.
    return [[first[group], *(ask(group, place) for place in range(1, rounds))] for group in groups]


def routed_as_declared(trial: Trial, mode: str, groups: list[list[Reply]], names: dict[int, str]) -> Evidence:
    """Check where requests went whose prompts share a beginning.

    By KV cache: to the worker that answered the group's first, which holds the beginning, and found it there. In turns:
    to each worker as many, whatever they hold.

    Args:
        trial: whose workload bounds the shares.
        mode: how the router was deployed: kv or round-robin.
        groups: what was answered, group by group.
        names: by id the workers' names.
    """
    workload = trial.workload
    prefix, size = int(workload["prefix_tokens"]), int(workload["block_size"])
    later = [(one.decode == group[0].decode, one) for group in groups for one in group[1:]]
    share = sum(holder for holder, _one in later) / len(later)
    cached = [one.cached_tokens for holder, one in later if holder]
    by = Counter(names.get(one.decode or 0, f"unknown {one.decode}") for group in groups for one in group)
    evidence: Evidence = {
        "router_mode": mode,
        "requests": sum(by.values()),
        "by_worker": dict(sorted(by.items())),
        "holders": [names.get(group[0].decode or 0, "?") for group in groups],
        "share_on_holder": round(share, 3),
        "cached_tokens": {"each_may_have": prefix // size * size, "least": min(cached, default=0), "sum": sum(cached)},
        "hit_rates": sorted({round(one.hit_rate, 3) for _holder, one in later if one.hit_rate is not None}),
    }
    if mode == "kv":
        least = float(workload["affinity_share"])
        if share < least:
            raise CheckFailed(
                f"{share:.0%} of {len(later)} requests went to the worker that holds their beginning, and {least:.0%} "
                f"are asked for; by worker {dict(sorted(by.items()))}",
                evidence,
                hint=_HINT,
            )
        if min(cached) < prefix // size * size:
            raise CheckFailed(
                f"a request on the worker that holds its beginning found {min(cached)} of {prefix} tokens in its cache",
                evidence,
                hint="the worker has dropped the beginning meanwhile, or caches nothing",
            )
    elif max(by.values()) - min(by.values()) > int(workload["turns_apart"]) or set(by) != set(names.values()):
        raise CheckFailed(
            f"in turns {', '.join(sorted(names.values()))} get as many requests each, not {dict(sorted(by.items()))}",
            evidence,
            hint=_HINT,
        )
    return evidence


def balanced(trial: Trial, mode: str, names: dict[int, str]) -> Evidence:
    """Check how evenly requests spread that come many at a time, of prompts that share nothing.

    Args:
        trial: whose router.
        mode: how it was deployed: in turns leaves no room, by KV cache the workload's `balance_share`.
        names: by id the workers' names.
    """
    workload = trial.workload
    number, at_once = int(workload["balance_requests"]), int(workload["balance_at_once"])
    before, routed = _at_rest(trial)
    prompts = [asking.prompt(f"balance {place}", int(workload["balance_prompt_tokens"])) for place in range(number)]
    sent = load.burst(trial, prompts, at_once, int(workload["answer_tokens"]))
    evidence = {"at_once": at_once, **load.all_answered(sent)}
    after, routed_since = _at_rest(trial)
    by = load.by_worker(sent, names)
    counted = {name: after[name] - before.get(name, 0) for name in after}
    evidence |= {
        "by_worker": dict(sorted(by.items())),
        "workers_count": counted,
        "router_counts": routed_since - routed,
        "largest_share": round(max(by.values()) / number, 3),
        "requests_per_second": round(
            number / (max(one.at + one.seconds for one in sent) - min(one.at for one in sent)), 1
        ),
    }
    if counted != {name: by[name] for name in counted} or (evidence["router_counts"] != number):
        raise CheckFailed(
            f"workers count {counted}, the router {evidence['router_counts']}, answers say {dict(sorted(by.items()))}",
            evidence,
            hint="requests were sent twice, or an answer names a worker that did not give it",
        )
    allowed = (number / len(names) + int(workload["turns_apart"])) / number
    if mode == "kv":
        allowed = float(workload["balance_share"])
    if set(by) != set(names.values()) or evidence["largest_share"] > round(allowed, 3):
        raise CheckFailed(
            f"of {number} requests, {at_once} at a time, one worker got {evidence['largest_share']:.0%}: "
            f"{dict(sorted(by.items()))}; {allowed:.0%} is allowed",
            {**evidence, "allowed_share": round(allowed, 3)},
            hint="see the router's log for the load that it believes its workers to have",
        )
    return {**evidence, "allowed_share": round(allowed, 3)}


def _at_rest(trial: Trial) -> tuple[dict[str, int], int]:
    """Return what the workers have taken and the router has routed, once that does not change any more."""
    (frontend,) = trial.deployment.of_kind("frontend")
    looks = [_look(trial, frontend)]

    def still() -> bool:
        looks.append(_look(trial, frontend))
        return looks[-1] == looks[-2]

    waiting.until(still, _LATE_SECONDS)
    return looks[-1]


def _look(trial: Trial, frontend: Service) -> tuple[dict[str, int], int]:
    return metrics.taken(trial), metrics.read(frontend).total(_ROUTED)


def nats_as_declared(server: dict[str, Any], streams: dict[str, Any], connections: int, *, jetstream: bool) -> Evidence:
    """Check that NATS runs with JetStream or without it, as declared, and that its clients are there.

    Args:
        server: what its monitoring says of itself (/varz).
        streams: what it says of JetStream (/jsz).
        connections: how many clients there have to be at least: the frontend and each worker have one.
        jetstream: whether it was declared.
    """
    enabled = bool((server.get("jetstream") or {}).get("config"))
    evidence = {
        "version": server.get("version"),
        "jetstream": enabled,
        "streams": streams.get("streams", 0),
        "connections": server.get("connections"),
        "messages": {"in": server.get("in_msgs"), "out": server.get("out_msgs")},
    }
    if enabled != jetstream:
        raise CheckFailed(
            f"JetStream of NATS is {'on' if enabled else 'off'}, and {'on' if jetstream else 'off'} is declared",
            evidence,
            hint="see the command of service nats in deployment.json",
            class_="configuration",
        )
    if (server.get("connections") or 0) < connections or not server.get("in_msgs"):
        raise CheckFailed(
            f"NATS has {server.get('connections')} clients and {server.get('in_msgs')} messages, and the frontend and "
            f"each worker make {connections}",
            evidence,
            hint="somebody uses another plane than declared: see the commands in deployment.json",
        )
    return evidence
