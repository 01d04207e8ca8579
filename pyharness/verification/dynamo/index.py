"""dynamo.indexer's index of who holds which blocks is equal to what the workers themselves have published.

It gives away all that it holds (/dump), and is compared block by block. The router's own index: router_index.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import events
from pyharness.verification.dynamo.events import Blocks

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_ANSWER_SECONDS = 10.0
_SETTLE_SECONDS = 5.0


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
