"""Short requests at a steady rate, for as long as something happens to the services: how many fail, and how.

Each is sent when it is due, whether the ones before have been answered or not: a frontend that stands still is so told
from one that is slow, and no error is left out because nobody asked.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pyharness import exercise
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from pyharness.verification.base import Trial

_PROMPT_TOKENS, _TOKENS = 16, 2
_AT_ONCE = 64
_SHOWN = 3


@dataclass(frozen=True)
class Beat:
    """One request.

    Attributes:
        at: when it was sent, on the monotonic clock.
        seconds: how long it took.
        problem: what was wrong; None of one that was answered.
        worker: id of the worker that answered; None where none did.
    """

    at: float
    seconds: float
    problem: str | None
    worker: int | None


class Pulse:
    """Requests at a steady rate, from when it is entered until it is left.

    Args:
        trial: whose frontend.
        seconds: how long an answer may take.
        rate: requests per second; None: the workload's `pulse_rate`.
        prompt_tokens: of each.
        tokens: of each answer.

    Attributes:
        beats: the requests that are over.
    """

    def __init__(
        self,
        trial: Trial,
        seconds: float | None = None,
        *,
        rate: float | None = None,
        prompt_tokens: int = _PROMPT_TOKENS,
        tokens: int = _TOKENS,
    ) -> None:
        self._trial = trial
        self._seconds = float(trial.workload["answer_seconds"] if seconds is None else seconds)
        self._every = 1.0 / float(trial.workload["pulse_rate"] if rate is None else rate)
        self._prompt_tokens, self._tokens = prompt_tokens, tokens
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._thread = threading.Thread(target=self._go, daemon=True)
        self.beats: list[Beat] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()

    def _go(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._stop.wait(max(0.0, started + sent * self._every - time.monotonic())):
            self._pool.submit(self._beat, sent)
            sent += 1

    def _beat(self, number: int) -> None:
        at = time.monotonic()
        tokens = asking.prompt(f"pulse {at} {number}", self._prompt_tokens)
        body = asking.completion(self._trial, tokens, self._tokens, nvext=asking.WHO)
        # Not by trial.send: hundreds of short answers would bury the exchanges that a person looks for.
        done = exercise.post(self._trial.deployment.entry + asking.COMPLETIONS, body, self._seconds)
        problem = asking.problem(done)
        worker = None if problem else asking.reply(done).decode
        self.beats.append(Beat(at, round(time.monotonic() - at, 3), problem, worker))

    def between(self, since: float, until: float = float("inf")) -> list[Beat]:
        """Return the requests that were sent between two moments of the monotonic clock."""
        return [beat for beat in sorted(self.beats, key=lambda beat: beat.at) if since <= beat.at < until]


def figures(beats: Iterable[Beat]) -> Evidence:
    """Return how many requests there were and how many failed, with the first failures."""
    known = sorted(beats, key=lambda beat: beat.at)
    failed = [beat for beat in known if beat.problem]
    return {
        "requests": len(known),
        "failed": len(failed),
        "slowest_seconds": max((beat.seconds for beat in known), default=None),
        "first_failures": [beat.problem for beat in failed[:_SHOWN]],
    }


def errors_bounded(beats: Iterable[Beat], allowed: int, when: str) -> Evidence:
    """Check that requests were made, and that no more of them failed than may.

    Args:
        beats: the requests.
        allowed: how many may fail.
        when: what happened meanwhile, for the message.

    Raises:
        CheckFailed: more did.
    """
    evidence = {**figures(beats), "allowed_failures": allowed}
    if not evidence["requests"]:
        raise CheckFailed(
            f"no request was made {when}",
            evidence,
            hint="the time was too short for the rate (workload.pulse_rate)",
            class_="test",
        )
    if evidence["failed"] > allowed:
        raise CheckFailed(
            f"{evidence['failed']} of {evidence['requests']} requests failed {when}, and {allowed} may: "
            f"{evidence['first_failures'][0]}",
            evidence,
            hint="the frontend's log has them, with the worker that it chose",
        )
    return evidence
