"""Verification of test_dynamo_router: where requests go, and whether the index behind it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness import exercise as asking_directly
from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import deployed, index, membership, metrics, router_index, routing
from pyharness.verification.dynamo.index import Follower

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial

CHECKS = (
    "indexer_follows",
    *deployed.CHECKS,
    "nats_as_declared",
    "routed_as_declared",
    "balanced",
    "indexer_equals_events",
    "router_took_events",
    "router_knows_prefixes",
    "worker_joins",
    "worker_leaves",
    "router_knows_prefixes_afterwards",
    "indexer_equals_events_afterwards",
)


def verify(trial: Trial) -> bool:
    """Have the indexer follow the workers, before they are asked anything, and wait until every worker answers."""
    workers = trial.deployment.of_kind("worker")
    if not trial.recorder.run("indexer_follows", lambda: index.register(trial, workers)):
        trial.skip(CHECKS[1:], "the indexer follows nobody")
        return False
    return deployed.ready(trial, CHECKS[1:])


def exercise(trial: Trial) -> None:
    """Ask for prompts that share a beginning, and for such that do not; compare indexes with the workers' events."""
    run, mode = trial.recorder.run, str(deployed.values(trial).get("router_mode", "round-robin"))
    names = metrics.worker_ids(trial)
    if trial.deployment.of_kind("nats"):
        run("nats_as_declared", lambda: _nats(trial))
    followers = [Follower(service) for service in metrics.workers(trial)]

    def routed() -> Evidence:
        # A router that goes by turns listens to no events.
        groups = routing.asked_in_groups(trial, lambda: router_index.settle(trial, followers) if mode == "kv" else None)
        return routing.routed_as_declared(trial, mode, groups, names)

    run("routed_as_declared", routed)
    run("balanced", lambda: routing.balanced(trial, mode, names))
    run("indexer_equals_events", lambda: index.indexer_equals_events(trial, followers))
    if mode == "kv":
        run("router_took_events", lambda: router_index.router_took_events(trial, followers))
        run("router_knows_prefixes", lambda: router_index.router_knows_prefixes(trial, followers, names))

    (newcomer,) = trial.deployment.later
    if not run("worker_joins", lambda: membership.joins(trial, newcomer)):
        trial.skip(CHECKS[-3:], "no worker has joined that could leave")
        return
    run("worker_leaves", lambda: membership.leaves(trial, newcomer))
    if mode == "kv":
        run("router_knows_prefixes_afterwards", lambda: router_index.router_knows_prefixes(trial, followers, names))
    run("indexer_equals_events_afterwards", lambda: _indexer_without(trial, newcomer, followers))


def _indexer_without(trial: Trial, newcomer: Any, followers: list[Follower]) -> Evidence:
    index.unregister(trial, newcomer)
    return index.indexer_equals_events(trial, followers)


def _nats(trial: Trial) -> Evidence:
    (nats,) = trial.deployment.of_kind("nats")
    seen = {path: asking_directly.get(nats.url + path, 10.0) for path in ("/varz", "/jsz")}
    try:
        server, streams = (exchange.json() for exchange in seen.values())
    except ValueError as error:
        raise CheckFailed(
            f"{nats.name} does not tell of itself: {seen['/varz'].problem or error}",
            {path: exchange.transcript()[:500] for path, exchange in seen.items()},
            hint=f"read {nats.log} on {nats.node}",
        ) from error
    clients = len(metrics.workers(trial)) + len(trial.deployment.of_kind("frontend"))
    return routing.nats_as_declared(server, streams, clients, jetstream=bool(deployed.values(trial).get("jetstream")))


__all__ = ["CHECKS", "exercise", "verify"]
