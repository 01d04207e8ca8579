"""An index of who holds which blocks is equal to what the workers themselves have published.

Two indexes are looked at. dynamo.indexer gives away all that it holds (/dump), and is compared block by block. The
router's own index cannot be read: it is asked by its decisions. For a prompt that continues what is stored, an answer
says which worker was chosen, and which share of the prompt's blocks the router believes it to hold; both follow from
the workers' events.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, events, metrics
from pyharness.verification.dynamo.events import Blocks

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_ANSWER_SECONDS = 10.0
_SETTLE_SECONDS = 5.0
# As prometheus_client reads it; the frontend leaves out the `_total`.
_APPLIED = "dynamo_component_kv_cache_events_applied_total"
_KINDS = {"stored": events.STORED, "removed": events.REMOVED, "cleared": events.CLEARED}
# Tokens behind a stored prefix: less than a block, so that asking stores nothing new.
_TAIL_TOKENS = 4


@dataclass
class Follower:
    """What a worker's cache holds, brought up to date by what it has published since."""

    service: Service
    held: Blocks = field(default_factory=Blocks)
    next: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def catch_up(self) -> Blocks:
        """Take all that is new.

        Raises:
            CheckFailed: the worker does not tell.
        """
        for event in events.replayed(self.service, self.next):
            self.held.apply(event)
            self.kinds[event.kind] += 1
            self.next = event.sequence + 1
        return self.held


def register(trial: Trial, workers: list[Service]) -> Evidence:
    """Tell dynamo.indexer of workers, so that it follows their events. Nobody else does.

    Raises:
        CheckFailed: it refuses.
    """
    (indexer,) = trial.deployment.of_kind("indexer")
    told: Evidence = {}
    for service in workers:
        body = {
            "instance_id": instance(trial, service),
            "endpoint": service.endpoints["kv_events"],
            "replay_endpoint": service.endpoints["kv_replay"],
            "model_name": trial.deployment.served.name,
            "block_size": int(trial.workload["block_size"]),
        }
        _post(indexer, "/register", body, (200, 201))
        told[service.name] = body["instance_id"]
    return told


def unregister(trial: Trial, worker: Service) -> None:
    """Tell dynamo.indexer that a worker has gone.

    Raises:
        CheckFailed: it refuses.
    """
    (indexer,) = trial.deployment.of_kind("indexer")
    body = {"instance_id": instance(trial, worker), "model_name": trial.deployment.served.name}
    _post(indexer, "/unregister", body, (200, 201))


def instance(trial: Trial, service: Service) -> int:
    """Return a worker's number in the indexer: its place in the deployment, from 1 on."""
    return 1 + [one.name for one in trial.deployment.services].index(service.name)


def _post(indexer: Service, path: str, body: dict[str, Any], right: tuple[int, ...]) -> None:
    exchange = exercise.post(indexer.url + path, body, _ANSWER_SECONDS)
    if exchange.status not in right:
        said = (exchange.body or "")[:200]
        raise CheckFailed(
            f"the indexer answers {path} with {exchange.problem or f'HTTP {exchange.status}: {said}'}",
            {"exchange": exchange.transcript()},
            hint=f"read {indexer.log} on {indexer.node}",
        )


def dumped(document: Any) -> dict[int, dict[int, int | None]]:
    """Read /dump: by instance its blocks, each with the one before it.

    Raises:
        ValueError: it is none.
    """
    result: dict[int, dict[int, int | None]] = {}
    try:
        for index in document.values():
            for entry in index["events"]:
                stored = entry["event"]["data"]["stored"]
                parent = stored["parent_hash"]
                held = result.setdefault(int(entry["worker_id"]), {})
                for block in stored["blocks"]:
                    held[int(block["block_hash"])] = parent
                    parent = int(block["block_hash"])
    except (AttributeError, TypeError, LookupError) as error:
        raise ValueError(f"/dump gave {str(document)[:200]}") from error
    return result


def indexer_equals_events(trial: Trial, followers: list[Follower]) -> Evidence:
    """Check that dynamo.indexer holds exactly the blocks that the workers' events leave, each behind the same one.

    Args:
        trial: whose indexer.
        followers: what is true of each worker that it was told of.
    """
    (indexer,) = trial.deployment.of_kind("indexer")
    last: dict[str, Any] = {}

    def equal() -> bool:
        last.clear()
        exchange = exercise.get(f"{indexer.url}/dump", _ANSWER_SECONDS)
        try:
            found = dumped(exchange.json())
        except ValueError as error:
            last["problem"] = exchange.problem or str(error)
            return False
        for follower in followers:
            held = follower.catch_up()
            seen = found.pop(instance(trial, follower.service), {})
            last[follower.service.name] = {
                "events": dict(follower.kinds),
                "blocks": len(held.parents),
                "stored": held.stored,
                "removed": held.removed,
                "indexed": len(seen),
                "missing": len(set(held.parents) - set(seen)),
                "stale": len(set(seen) - set(held.parents)),
                "parents_differ": sum(seen[block] != held.parents[block] for block in set(seen) & set(held.parents)),
            }
        last["others"] = sum(len(blocks) for blocks in found.values())
        return not last["others"] and not any(
            one["missing"] or one["stale"] or one["parents_differ"] for one in last.values() if isinstance(one, dict)
        )

    right, seconds = waiting.until(equal, _SETTLE_SECONDS)
    evidence = {**last, "seconds": seconds}
    if not right:
        raise CheckFailed(
            f"the indexer's blocks are not those of the workers' events, {seconds} s after the last request: {last}",
            evidence,
            hint="missing: it has lost events, or was told of the worker too late; stale: it has not taken a removal",
        )
    if not any(follower.held.stored for follower in followers):
        raise CheckFailed(
            "no worker has published a stored block, and an index of nothing proves nothing",
            evidence,
            hint="see whether the workers cache prefixes and publish events: their commands are in deployment.json",
        )
    return evidence


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
            if all(token in vocabulary for token in chain) and not any(one[: len(chain)] == chain for one in own):
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
    blocks, follows = 0, True
    for number, chain in enumerate([*chosen, *dropped]):
        # What is not stored is stored by asking, and the router has to have taken that before the next is asked.
        if number >= len(chosen) and follows:
            told = settle(trial, followers)
            follows = told["published"] == told["applied"]
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
            f"{len(wrong)} of {len(chosen)} stored and {len(dropped)} dropped beginnings were routed otherwise than the "
            f"workers' events say, the first: {wrong[0] if wrong else 'there was none'}",
            evidence,
            hint="held: blocks by the worker's own events; hit_rate: what the router believes of the one that it chose",
        )
    return evidence
