"""Mooncake's process group (`mooncake.pg`) by itself: its operations, and what it does when a rank is killed.

Sources: Mooncake's "PG Design" and "Mooncake EP & Mooncake PG". With its defaults a failed operation ends when the
coordinator (on rank 0) has decided who is still there, 30 s after the first evidence, and has taken the others out of
the group; their numbers in it stay free. The operation that finds a rank gone is told to have failed, and the next one
is right and as fast as ever.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyharness import faults
from pyharness.verification import agents, collectives, links, services, wheel
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.collectives import Operation
from pyharness.verification.links import Moved

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

BACKEND = "mooncake-cpu"
CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "group_complete",
    *(f"{name}_right" for name in collectives.OPERATIONS),
    "half_sums_right",
    "transport_used",
    "rank_killed",
    "loss_noticed",
    "survivors_go_on",
)
_AFTER_LOSS = CHECKS[CHECKS.index("rank_killed") :]
# One operation on a busy machine; the largest takes half a second on an idle one.
_OPERATION_SECONDS = 60.0
# A rank that is late is told from one that does not answer at all.
_LATE_SECONDS = 10.0
# An operation among those left must not take as long as one that finds a rank gone.
_SWIFT_SECONDS = 5.0


def ranks_of(trial: Trial) -> dict[int, Service]:
    """Return the ranks by their numbers."""
    return {int(service.name.removeprefix("rank")): service for service in trial.deployment.of_kind("rank")}


def verify(trial: Trial) -> bool:
    """Check what runs, before any operation."""
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial, kinds=()))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial, kinds=("rank",)))
    if not ours:
        trial.skip(CHECKS[2:], "the ranks that answer are not the ones that were deployed")
    return ours


def exercise(trial: Trial, lost: str) -> None:
    """Have the ranks do all operations, kill one, and have the others go on.

    Args:
        trial: whose ranks.
        lost: name of the one that is killed.
    """
    ranks = ranks_of(trial)
    recorder = trial.recorder
    if not recorder.run("group_complete", lambda: group_complete(trial, ranks)):
        trial.skip(CHECKS[3:], "the ranks are no group of Mooncake's")
        return
    done: list[Operation] = []
    before = links.look(trial, ranks.values())
    for name in collectives.OPERATIONS:
        recorder.run(f"{name}_right", lambda name=name: _operation_right(trial, ranks, name, done))  # type: ignore[misc]
    after = links.look(trial, ranks.values())
    recorder.run("half_sums_right", lambda: half_sums_right(trial, ranks))
    used, evidence = links.transport_of(trial, _moved(ranks, done), before, after)
    trial.note_transport(used, evidence)
    requested = trial.deployment.transport.requested
    recorder.run("transport_used", lambda: links.as_asked(used, evidence, requested))

    number = next(rank for rank, service in ranks.items() if service.name == lost)
    if not recorder.run("rank_killed", lambda: faults.for_good(trial, faults.Kill(ranks[number]))):
        trial.skip(_AFTER_LOSS[1:], "no rank was lost")
        return
    left = {rank: service for rank, service in ranks.items() if rank != number}
    if not recorder.run("loss_noticed", lambda: loss_noticed(trial, left, number)):
        trial.skip(_AFTER_LOSS[2:], "the others do not know that a rank is gone")
        return
    recorder.run("survivors_go_on", lambda: survivors_go_on(trial, left))


def group_complete(trial: Trial, ranks: dict[int, Service]) -> Evidence:
    """Check by each rank's own account that the group is Mooncake's and that all take part."""
    evidence: Evidence = {}
    for rank, service in ranks.items():
        told = agents.ask(trial, service, "describe", {})
        evidence[service.name] = told
        wanted = {
            "rank": rank,
            "backend": BACKEND,
            "world_size": len(ranks),
            "active_ranks": [True] * len(ranks),
        }
        wrong = {name: told.get(name) for name, value in wanted.items() if told.get(name) != value}
        if wrong:
            raise CheckFailed(
                f"{service.name} is not in the group as it was deployed: "
                + ", ".join(f"{name} is {value!r} instead of {wanted[name]!r}" for name, value in wrong.items()),
                evidence,
                hint=f"read {service.log} on {service.node}",
            )
    return evidence


def _operation_right(trial: Trial, ranks: dict[int, Service], name: str, done: list[Operation]) -> Evidence:
    operations = list(collectives.of_sizes(name, trial))
    if name == "broadcast":
        operations = [
            Operation(entry.name, entry.dtype, entry.elements, entry.seed, root=place % len(ranks))
            for place, entry in enumerate(operations)
        ]
    return collectives.all_right(trial, ranks, operations, _OPERATION_SECONDS, done)


def _moved(ranks: dict[int, Service], done: list[Operation]) -> list[Moved]:
    """Return what had to go from each rank to each other: what only the one has and the other gets whole."""
    whole = sum(operation.size for operation in done if operation.name in ("all_gather", "all_to_all"))
    return [
        Moved(source, target, whole) for source in ranks.values() for target in ranks.values() if source is not target
    ]


def half_sums_right(trial: Trial, ranks: dict[int, Service]) -> Evidence:
    """Check that sums of half precision are right, or refused in words by all ranks: never wrong."""
    evidence: Evidence = {}
    for dtype in trial.workload["half_dtypes"]:
        operation = Operation("all_reduce", str(dtype), 1000, f"{trial.workload['seed']} half")
        answers = collectives.take_part(trial, ranks, operation, _OPERATION_SECONDS)
        refused = collectives.refusals(answers)
        if len(refused) < len(ranks):
            collectives.right(operation, answers, sorted(ranks))
        evidence[str(dtype)] = {"refused": refused[min(ranks)]} if refused else "right"
    return evidence


def loss_noticed(trial: Trial, left: dict[int, Service], lost: int) -> Evidence:
    """Check that the operation after the loss ends in time, names the lost rank, and takes it out of the group."""
    limit = float(trial.workload["notice_seconds"])
    operation = Operation("all_reduce", "float32", 1000, f"{trial.workload['seed']} loss")
    started = time.monotonic()
    answers = collectives.take_part(trial, left, operation, limit + _LATE_SECONDS)
    seconds = time.monotonic() - started
    evidence: Evidence = {
        "lost": lost,
        "limit_seconds": limit,
        "noticed_after_seconds": round(seconds, 2),
        "answers": {
            str(rank): {name: value for name, value in answer.items() if name != "blocks"}
            for rank, answer in answers.items()
        },
    }
    if seconds > limit:
        raise CheckFailed(
            f"the ranks {sorted(left)} took {seconds:.1f} s to notice that rank {lost} is gone; {limit:g} s are "
            "allowed",
            evidence,
            hint="Mooncake's own limit is its reconciliation window, 30 s unless the workload says another",
        )
    for rank, answer in answers.items():
        wrong = _unaware(answer, lost)
        if wrong:
            raise CheckFailed(
                f"rank {rank} was in an operation without rank {lost}, which had been killed, and {wrong}",
                evidence,
                hint="see the coordinator's words ([COORD]) in the log of rank 0",
            )
    return evidence


def _unaware(answer: dict[str, Any], lost: int) -> str:
    """Say by what a rank shows that it does not know of a loss; empty if it knows."""
    if "refused" in answer:
        return f"did not go on: {answer['refused']}"
    if answer["local_success"] or lost not in answer["failed_ranks"]:
        return f"does not name it among those that failed ({answer['failed_ranks']})"
    if answer["active_ranks"][lost]:
        return f"still counts it among those that take part ({answer['active_ranks']})"
    return ""


def survivors_go_on(trial: Trial, left: dict[int, Service]) -> Evidence:
    """Check all operations among those left: right, and swift again."""
    workload = trial.workload
    operations = [
        Operation(name, "float32", int(workload["large"]), f"{workload['seed']} after {name}", root=min(left))
        for name in collectives.OPERATIONS
    ]
    evidence = collectives.all_right(trial, left, operations, _OPERATION_SECONDS, [])
    slowest = evidence["slowest"]
    if slowest["seconds"] > _SWIFT_SECONDS:
        raise CheckFailed(
            f"{slowest['operation']} took {slowest['seconds']} s among the ranks {sorted(left)}: they still wait for "
            "the one that is gone",
            evidence,
            hint="see in the log of rank 0 whether the coordinator took it out of the group",
        )
    return evidence
