"""A worker that is stopped for so long that the frontend takes it for gone, and that goes on afterwards.

Without a time-out of the backend's stream nobody tells the client anything, and with file discovery the worker never
comes back: both are known defects of 1.6.1, each with a check of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyharness import faults
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, metrics, streams, worker_faults
from pyharness.verification.dynamo.pulse import Pulse, figures

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.streaming import Stream
    from pyharness.verification.base import Trial

# A frontend that looks at its workers' load (--router-mode kv) has this gauge for each of them, and drops it with them.
LOAD = "dynamo_frontend_worker_active_decode_blocks"
# Requests that go to the stopped worker are not waited for: they are counted as they are.
_PULSE_SECONDS = 3.0
_ATTEMPTS = 3


@dataclass
class Stalled:
    """What a stop of a worker has left for the checks that follow.

    Attributes:
        worker: which.
        number: its id.
        stood_still: the stream that it served, in which nothing came within the time that is allowed, or None.
        evidence: what was seen.
    """

    worker: Service | None = None
    number: int = 0
    stood_still: CheckFailed | None = None
    evidence: Evidence = field(default_factory=dict)


def known_workers(trial: Trial) -> set[int]:
    """Return the ids of the workers that the frontend knows.

    Raises:
        CheckFailed: it gives no metrics.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    return {int(key[0]) for key in metrics.read(frontend).by(LOAD, "worker_id")}


def stop_until_dropped(trial: Trial, seed: str, found: Stalled) -> Evidence:
    """Stop a worker in the middle of a stream until the frontend takes it for gone, and let it go on.

    Args:
        trial: whose workers.
        seed: of the stream's prompt.
        found: takes what the other checks judge.

    Raises:
        CheckFailed: the frontend does not notice in time, or the stream is not whole or told of in the end.
    """
    load = trial.workload
    stream = _begun(trial, seed)
    worker = streams.under_way(trial, stream)
    found.worker = worker
    found.number = next(number for number, name in metrics.worker_ids(trial).items() if name == worker.name)
    with Pulse(trial, _PULSE_SECONDS) as pulse, faults.injected(trial, faults.Stall(worker)) as hold:
        try:
            found.evidence = worker_faults.stall_told(stream, hold.injected_at, float(load["stall_seconds"]))
        except CheckFailed as failed:
            found.stood_still = failed
        dropped = _dropped(trial, found.number, hold.injected_at)
    evidence: Evidence = {
        "worker": worker.name,
        "dropped_after_seconds": dropped,
        "meanwhile": figures(pulse.between(hold.injected_at)),
        "stream": _in_the_end(trial, stream),
        "fault": hold.evidence,
    }
    return evidence


def _begun(trial: Trial, seed: str) -> Stream:
    """Begin a stream. It is begun again where it is refused, as by a frontend that knows a dead worker still."""
    for attempt in range(_ATTEMPTS):
        stream = streams.begin(trial, f"{seed} {attempt}", int(trial.workload["stream_tokens"]))
        stream.wait_events(1, float(trial.workload["answer_seconds"]))
        if not (stream.is_over and stream.result().ending == "refused"):
            break
    return stream


def _dropped(trial: Trial, number: int, since: float) -> float:
    limit = float(trial.workload["drop_seconds"])
    gone, _waited = waiting.until(
        lambda: number not in known_workers(trial), max(0.0, since + limit - time.monotonic())
    )
    spent = round(time.monotonic() - since, 3)
    if not gone:
        raise CheckFailed(
            f"the frontend has a stopped worker among its workers still, {spent:g} s after it was stopped",
            {"worker": number, "known": sorted(known_workers(trial)), "limit_seconds": limit},
            hint=f"{LOAD} in its /metrics; discovery drops what does not renew its entry",
        )
    return spent


def _in_the_end(trial: Trial, stream: Stream) -> Evidence:
    """Check that the stream came to an end once its worker went on: whole, or with an error, and never as if whole."""
    tokens = int(trial.workload["stream_tokens"])
    told = stream.result()
    if told.error is not None:
        return streams.told_of_loss(told, tokens)
    return streams.whole(told, tokens)


def told_in_time(found: Stalled) -> Evidence:
    """Check that the stream of the stopped worker went on, or told an error, within the time that is allowed.

    Raises:
        CheckFailed: it stood still.
    """
    if found.stood_still is not None:
        raise found.stood_still
    return found.evidence


def rejoins(trial: Trial, found: Stalled) -> Evidence:
    """Check that a worker that was stopped, and goes on, is known to the frontend again, or answers.

    Raises:
        CheckFailed: it does not.
    """
    assert found.worker is not None
    seen: set[int] = set()

    def answered() -> bool:
        done = asking.ask(trial, asking.prompt(f"rejoin {time.monotonic()}", 16), 1)
        number = asking.reply(done).decode
        if number is not None:
            seen.add(number)
        return found.number in seen or found.number in known_workers(trial)

    limit = float(trial.workload["renewal_seconds"])
    back, waited = waiting.until(answered, limit)
    evidence: Evidence = {"worker": found.number, "answered_by": sorted(seen), "waited_seconds": waited}
    if not back:
        raise CheckFailed(
            f"{found.worker.name} goes on, and the frontend does not know it any more, {waited:g} s later",
            evidence,
            hint="with file discovery a worker whose entry was removed never writes it again: see its log",
        )
    return evidence
