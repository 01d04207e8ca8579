"""A worker joins, and leaves again, with requests going on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyharness import faults
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import deployed, load, metrics

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial


def joins(trial: Trial, worker: Service) -> Evidence:
    """Start a worker that was declared and not started, and check that it gets its part, and that no request fails.

    Args:
        trial: whose router.
        worker: which.
    """
    workload = trial.workload
    before = len(deployed.instances(trial))
    with _steady(trial) as steady:
        proof = faults.for_good(trial, faults.Start(worker))
        began = time.monotonic()
        names = metrics.worker_ids(trial)
        limit = float(workload["join_seconds"])

        def part() -> int:
            return load.by_worker(steady.since(began), names)[worker.name]

        got, seconds = waiting.until(lambda: part() >= int(workload["join_requests"]), limit)
    by = load.by_worker(steady.since(began), names)
    evidence = {
        "worker": worker.name,
        "effect": proof,
        "first_requests_after_seconds": seconds,
        "by_worker_since": dict(sorted(by.items())),
        "instances": {"before": before, "after": len(deployed.instances(trial))},
        **load.all_answered(steady.sent),
    }
    if not got:
        raise CheckFailed(
            f"{worker.name} has been ready for {seconds} s, and got {by[worker.name]} of {sum(by.values())} requests",
            evidence,
            hint="see the frontend's log for whether it has discovered the worker",
        )
    return evidence


def leaves(trial: Trial, worker: Service) -> Evidence:
    """Ask the worker to end (SIGTERM), and check that no request fails, and that it gets none afterwards.

    Args:
        trial: whose router.
        worker: the one that has joined.
    """
    workload = trial.workload
    names = metrics.worker_ids(trial)
    others = sorted(name for name in names.values() if name != worker.name)
    with _steady(trial) as steady:
        waiting.until(lambda: load.by_worker(list(steady.sent), names)[worker.name], float(workload["join_seconds"]))
        proof = faults.for_good(trial, faults.Terminate(worker, float(workload["drain_seconds"]), back=False))
        gone = time.monotonic()
        enough = int(workload["join_requests"]) * len(others)
        waiting.until(lambda: len(steady.since(gone)) >= enough, float(workload["join_seconds"]))
    left, seconds = waiting.until(
        lambda: len(deployed.instances(trial)) == len(others), float(workload["forgotten_seconds"])
    )
    during, after = load.by_worker(list(steady.sent), names), load.by_worker(steady.since(gone), names)
    evidence = {
        "worker": worker.name,
        "effect": proof,
        "by_worker": dict(sorted(during.items())),
        "by_worker_afterwards": dict(sorted(after.items())),
        "forgotten_after_seconds": seconds,
        **load.all_answered(steady.sent),
    }
    if set(after) != set(others):
        raise CheckFailed(
            f"after {worker.name} has ended, answers came from {dict(sorted(after.items()))}, and {others} are there",
            evidence,
            hint="see the frontend's log for the workers that it knows",
        )
    if not during[worker.name]:
        raise CheckFailed(
            f"{worker.name} had no request when it was asked to end: its drain was not tried",
            evidence,
            hint="let the workload have more clients (steady_clients)",
            class_="test",
        )
    if not left:
        raise CheckFailed(
            f"{seconds} s after {worker.name} has ended, discovery has {len(deployed.instances(trial))} instances",
            evidence,
            hint="a worker that drains takes itself out of discovery: see its log",
        )
    return evidence


def _steady(trial: Trial) -> load.Steady:
    workload = trial.workload
    return load.Steady(
        trial,
        int(workload["steady_clients"]),
        int(workload["balance_prompt_tokens"]),
        int(workload["answer_tokens"]),
    )
