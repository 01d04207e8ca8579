"""Workers that are killed, drained and stopped: what streams and other requests have of it.

Every check makes its fault by the fault library, and has short requests made all the time (`pulse`).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyharness import faults
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, metrics, streams
from pyharness.verification.dynamo.pulse import Pulse, errors_bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.deployment import Service
    from pyharness.streamed import Streamed
    from pyharness.streaming import Stream
    from pyharness.verification.base import Trial

# Of a frontend: streams that it has moved to another worker, by migration_type (ongoing_request, new_request).
MIGRATIONS = "dynamo_frontend_model_migration_total"


@dataclass(frozen=True)
class Moved:
    """A stream whose worker was killed under it, and that went on.

    Attributes:
        told: what came of it.
        prompt_tokens: how many its prompt has.
        victim: id of the worker that was killed.
    """

    told: Streamed
    prompt_tokens: int
    victim: int


def answers(trial: Trial, service: Service) -> bool:
    """Return whether requests are answered, and this worker, as it runs now, answers some of them.

    Raises:
        CheckFailed: one is not answered.
    """
    ids = {name: number for number, name in metrics.worker_ids(trial).items()}
    if service.name not in ids:
        return False
    # A router that takes turns comes to each of them; one that looks at their load does as well, when they are idle.
    for _turn in range(2 * len(ids)):
        done = asking.ask(trial, asking.prompt(f"answers {time.monotonic()}", 16), 1)
        reply = asking.reply(done)
        if ids[service.name] in (reply.decode, reply.prefill):
            return True
    return False


def works(trial: Trial, service: Service, stream: Stream) -> bool:
    """Return whether a worker works: it serves that stream, while this is under way, and answers requests afterwards.

    Raises:
        CheckFailed: a request is not answered.
    """
    return not stream.is_over or answers(trial, service)


def migrations(trial: Trial) -> int:
    """Return how many streams that were under way the frontend has moved to other workers.

    Raises:
        CheckFailed: it gives no metrics.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    return metrics.read(frontend).total(MIGRATIONS, migration_type="ongoing_request")


@contextmanager
def under_load(
    trial: Trial, fault: faults.Fault, worker: Service, stream: Stream, limit: str = "recovery_seconds"
) -> Iterator[tuple[Pulse, faults.Hold]]:
    """Have a fault of a worker while the block runs and short requests are made, until the worker works again.

    Args:
        trial: whose worker.
        fault: what is done to it.
        worker: the worker.
        stream: one that it serves.
        limit: the figure of the workload that says how long the recovery may take.

    Raises:
        CheckFailed: see `faults.injected`.
    """
    seconds = float(trial.workload[limit])
    back = faults.injected(trial, fault, limit_seconds=seconds, recovered=lambda: works(trial, worker, stream))
    with Pulse(trial) as pulse, back as hold:
        yield pulse, hold


def named_right(moved: Moved) -> Evidence:
    """Check that the last events of a stream that has moved do not name the worker that was killed.

    Raises:
        CheckFailed: they do.
    """
    last = streams.server(moved.told.events)
    evidence: Evidence = {"killed": moved.victim, "named_last": last}
    if last == moved.victim:
        raise CheckFailed(
            "the last events of a stream that has moved name the worker that was killed",
            evidence,
            hint="nvext.worker_id of its events; the frontend logs `Conflicting request tracker write`",
        )
    return evidence


def kill_survived(trial: Trial, seed: str, moved: list[Moved]) -> Evidence:
    """Check that a stream whose worker is killed is whole, after a short gap, and that no other request fails.

    Args:
        trial: whose workers.
        seed: of the prompt.
        moved: takes the stream, for checks that follow.
    """
    load = trial.workload
    before = migrations(trial)
    stream = streams.begin(trial, seed, int(load["stream_tokens"]))
    victim = streams.under_way(trial, stream)
    with under_load(trial, faults.Kill(victim), victim, stream) as (pulse, hold):
        told = stream.result()
        evidence = streams.whole(told, int(load["stream_tokens"]))
        gap = streams.gap_of(told, hold.injected_at)
        evidence |= {"gap_milliseconds": round(1000 * gap), "migrations": migrations(trial) - before}
        if not evidence["migrations"]:
            raise faults.FaultFailed(
                f"{victim.name} was killed, and the frontend has moved no stream: it was over before",
                evidence,
                hint="ask for more tokens (workload.stream_tokens)",
            )
        moved.append(Moved(told, len(told.request["prompt"]), streams.server(told.events[:1]) or 0))
        if gap > float(load["gap_seconds"]):
            raise CheckFailed(
                f"the stream stood still for {gap:g} s when its worker was killed; {load['gap_seconds']} s are allowed",
                evidence,
                hint="the frontend's log has the migration",
            )
    evidence |= errors_bounded(pulse.between(hold.injected_at), 0, "from the kill to the recovery")
    return {**evidence, "fault": hold.evidence}


def kill_told(trial: Trial, seed: str) -> Evidence:
    """Check that without migration a stream whose worker is killed says so, and that few other requests fail."""
    load = trial.workload
    stream = streams.begin(trial, seed, int(load["stream_tokens"]))
    victim = streams.under_way(trial, stream)
    with under_load(trial, faults.Kill(victim), victim, stream) as (pulse, hold):
        told = stream.result()
        evidence = streams.told_of_loss(told, int(load["stream_tokens"]))
    evidence |= errors_bounded(
        pulse.between(hold.injected_at), int(load["failures_without_migration"]), "from the kill to the recovery"
    )
    return {**evidence, "fault": hold.evidence}


def drains(trial: Trial, seed: str) -> Evidence:
    """Check that a worker asked to end lets its own streams end whole, takes nothing new, and is gone in time."""
    load, before = trial.workload, migrations(trial)
    tokens = int(load["drain_tokens"])
    ours = [streams.begin(trial, f"{seed} {number}", tokens) for number in range(2 * len(metrics.workers(trial)))]
    servers = [streams.under_way(trial, stream) for stream in ours]
    leaving = servers[0]
    number = next(number for number, name in metrics.worker_ids(trial).items() if name == leaving.name)
    with under_load(trial, faults.Terminate(leaving, drain_seconds=float(load["drain_seconds"])), leaving, ours[0]) as (
        pulse,
        hold,
    ):
        whole = [streams.whole(stream.result(), tokens) for stream in ours]
        late = [beat for beat in pulse.between(hold.proven_at) if beat.worker == number]
    evidence = errors_bounded(pulse.between(hold.injected_at), 0, "from SIGTERM to the recovery")
    evidence["streams_whole"] = len(whole)
    evidence["of_the_leaving_worker"] = sum(service.name == leaving.name for service in servers)
    evidence["migrations"] = migrations(trial) - before
    if evidence["migrations"]:
        raise CheckFailed(
            f"{leaving.name} was asked to end, and {evidence['migrations']} of its streams ended on another worker",
            evidence,
            hint="a worker that drains serves its streams to their end: see its log",
        )
    if late:
        raise CheckFailed(
            f"{leaving.name} has ended, and {len(late)} requests that were sent afterwards say that it answered them",
            evidence,
            hint="see the frontend's log, and whose id it is",
        )
    return {**evidence, "fault": hold.evidence}


def stall_survived(trial: Trial, seed: str) -> Evidence:
    """Check that with a time-out of the backend's stream a stopped worker's stream moves on, and it comes back."""
    load = trial.workload
    stream = streams.begin(trial, seed, int(load["stream_tokens"]))
    stopped = streams.under_way(trial, stream)
    with under_load(trial, faults.Stall(stopped), stopped, stream, limit="rejoin_seconds") as (pulse, hold):
        told = stream.result()
        evidence = streams.whole(told, int(load["stream_tokens"]))
        gap = streams.gap_of(told, hold.injected_at)
        evidence["gap_milliseconds"] = round(1000 * gap)
        if gap > float(load["stall_seconds"]):
            raise CheckFailed(
                f"the stream stood still for {gap:g} s when its worker was stopped; {load['stall_seconds']} s may be",
                evidence,
                hint="DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS is when the frontend gives a silent worker up",
            )
    evidence |= errors_bounded(pulse.between(hold.injected_at), 0, "from SIGSTOP to the recovery")
    return {**evidence, "fault": hold.evidence}


def stall_told(stream: Stream, since: float, seconds: float) -> Evidence:
    """Check that within `seconds` a stream whose worker is stopped goes on, elsewhere, or tells an error.

    Args:
        stream: which.
        since: when its worker was stopped, on the monotonic clock.
        seconds: how long it may stand still.
    """
    tokens = len(stream.events)
    stream.wait_events(tokens + 1, max(0.0, since + seconds - time.monotonic()))
    spent = round(time.monotonic() - since, 3)
    evidence: Evidence = {"events": len(stream.events), "waited_seconds": spent, "limit_seconds": seconds}
    if len(stream.events) == tokens and not stream.is_over:
        raise CheckFailed(
            f"the stream of a stopped worker stands still: no event for {seconds:g} s, and no error",
            evidence,
            hint="without DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS the frontend waits 45 s",
        )
    return evidence
