"""The router's index of who holds which blocks is true: it knows what the workers have published, and nothing else.

It cannot be read, but asked by its decisions. For a prompt that continues what is stored, an answer says which worker
was chosen, and which share of the prompt's blocks the router believes it to hold; both follow from the workers' events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, events, metrics

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from pyharness.verification.dynamo.index import Follower

_SETTLE_SECONDS = 5.0
# As prometheus_client reads it; the frontend leaves out the `_total`.
_APPLIED = "dynamo_component_kv_cache_events_applied_total"
_KINDS = {"stored": events.STORED, "removed": events.REMOVED, "cleared": events.CLEARED}
# Tokens behind a beginning: less than a block, so that asking for what is stored stores nothing new.
_TAIL_TOKENS = 4


def _taken(trial: Trial, followers: list[Follower]) -> Evidence:
    """Return how many events of each kind the workers have published, and the router has applied."""
    (frontend,) = trial.deployment.of_kind("frontend")
    for follower in followers:
        follower.catch_up()
    applied = metrics.read(frontend).by(_APPLIED, "event_type", "status")
    return {
        "published": {name: sum(one.kinds[kind] for one in followers) for name, kind in _KINDS.items()},
        "applied": {name: round(applied.get((name, "ok"), 0)) for name in _KINDS},
        "refused": {" ".join(labels): round(count) for labels, count in applied.items() if count and labels[1] != "ok"},
    }


def _ahead(trial: Trial, followers: list[Follower]) -> dict[str, int]:
    """Return by how many events of each kind the router is ahead: it may know of workers that are gone."""
    told = _taken(trial, followers)
    return {name: told["applied"][name] - told["published"][name] for name in _KINDS}


def _at_rest(trial: Trial, followers: list[Follower]) -> dict[str, int]:
    looks = [_ahead(trial, followers)]

    def still() -> bool:
        looks.append(_ahead(trial, followers))
        return looks[-1] == looks[-2]

    waiting.until(still, _SETTLE_SECONDS)
    return looks[-1]


def settle(trial: Trial, followers: list[Follower]) -> Evidence:
    """Wait until the router has applied what the workers have published, if it does. Returns the last figures."""
    last: Evidence = {}

    def equal() -> bool:
        last.update(_taken(trial, followers))
        return bool(last["published"] == last["applied"])

    _right, last["seconds"] = waiting.until(equal, _SETTLE_SECONDS)
    return last


def router_took_events(trial: Trial, followers: list[Follower]) -> Evidence:
    """Check that the router has applied as many events of each kind as the workers have published, all of them well.

    Args:
        trial: whose router.
        followers: what is true of each worker.
    """
    evidence = settle(trial, followers)
    if evidence["published"] != evidence["applied"] or evidence["refused"]:
        raise CheckFailed(
            f"workers have published {evidence['published']} events, and the router has applied {evidence['applied']}, "
            f"others {evidence['refused']}",
            evidence,
            hint="events are lost on the event plane, or the router does not listen (--router-kv-events)",
        )
    return evidence


def prefixes(followers: list[Follower], most: int, vocabulary: range) -> list[list[int]]:
    """Return stored beginnings that can be asked for, spread over the workers.

    Args:
        followers: what is true of each worker.
        most: how many are wanted.
        vocabulary: tokens that a prompt may have: what a simulated engine makes up lies outside.
    """
    found: list[tuple[int, ...]] = []
    for follower in followers:
        own: set[tuple[int, ...]] = set()
        for leaf in follower.held.leaves():
            here: int | None = leaf
            while here is not None:
                chain = follower.held.chain(here)
                if chain and all(token in vocabulary for token in chain):
                    own.add(tuple(chain))
                    break
                here = follower.held.parents.get(here)
        ordered = sorted(own)
        wanted = max(1, most // len(followers))
        found += ordered[:: max(1, len(ordered) // wanted)][:wanted]
    return [list(chain) for chain in dict.fromkeys(found)]


def _dropped(followers: list[Follower], most: int, vocabulary: range) -> list[list[int]]:
    """Return beginnings that a worker has dropped, none of them the beginning of another; the last dropped first."""
    found: list[tuple[int, ...]] = []
    for follower in followers:
        own: dict[tuple[int, ...], None] = {}
        for chain in reversed(follower.held.dropped):
            known = any(one[: len(chain)] == chain[: len(one)] for one in own)
            if not known and all(token in vocabulary for token in chain):
                own[chain] = None
            if len(own) >= max(1, most // len(followers)):
                break
        found += own
    return [list(chain) for chain in dict.fromkeys(found)]


def router_knows_prefixes(trial: Trial, followers: list[Follower], names: dict[int, str]) -> Evidence:
    """Check by its decisions that the router knows who holds what.

    Stored beginnings are asked for, one after the other, with a few new tokens behind each; and beginnings that were
    stored and are not any more. The worker that holds most has to be chosen, and the share that the router names has to
    be what that worker's own events say: less would be missing in its index, and more would be stale.

    Args:
        trial: whose router.
        followers: what is true of each worker.
        names: by id the workers' names.
    """
    size = int(trial.workload["block_size"])
    first, last = (int(token) for token in trial.workload["prompt_vocabulary"])
    for follower in followers:
        follower.catch_up()
    chosen = prefixes(followers, int(trial.workload["index_probes"]), range(first, last))
    dropped = _dropped(followers, int(trial.workload["dropped_probes"]), range(first, last))
    wrong: list[dict[str, Any]] = []
    blocks, follows, ahead = 0, True, _at_rest(trial, followers)
    for number, chain in enumerate([*chosen, *dropped]):
        # What is not stored is stored by asking, and the router has to have taken that before the next is asked.
        if number >= len(chosen) and follows:
            follows, _seconds = waiting.until(lambda: _ahead(trial, followers) == ahead, _SETTLE_SECONDS)
        whole = chain + asking.prompt(f"probe {number}", _TAIL_TOKENS)
        held = {one.service.name: one.catch_up().prefix(whole, size) for one in followers}
        reply = asking.reply(asking.ask(trial, whole, 1))
        name, most = names.get(reply.decode or 0, f"unknown {reply.decode}"), max(held.values())
        share = most / -(-len(whole) // size)
        blocks += most
        if held.get(name) != most or reply.hit_rate is None or abs(reply.hit_rate - share) > 1e-6:
            wrong.append({"held": held, "sent_to": name, "hit_rate": reply.hit_rate, "true_share": round(share, 4)})
    evidence = {
        "prefixes": len(chosen),
        "dropped": len(dropped),
        "of_leaves": sum(len(one.held.leaves()) for one in followers),
        "blocks": blocks,
        "wrong": len(wrong),
        "examples": wrong[:5],
    }
    if wrong or not blocks:
        raise CheckFailed(
            f"{len(wrong)} of {len(chosen)} stored and {len(dropped)} dropped beginnings were routed otherwise than "
            f"the workers' events say, the first: {wrong[0] if wrong else 'there was none'}",
            evidence,
            hint="held: blocks by the worker's own events; hit_rate: what the router believes of the one that it chose",
        )
    return evidence
