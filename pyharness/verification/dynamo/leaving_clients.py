"""Clients that go away in the middle of their answer: the worker stops, by its own counters."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from pyharness import exercise, faults
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import metrics, streams

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_LOOK_SECONDS = 0.02
_METRICS_SECONDS = 2.0


def cancel_stops(trial: Trial, seed: str) -> Evidence:
    """Check by the worker's own counters that it stops within a second when its client goes."""
    load = trial.workload
    (frontend,) = trial.deployment.of_kind("frontend")
    stream = streams.begin(trial, seed, int(load["cancel_tokens"]))
    worker = streams.under_way(trial, stream)
    before = metrics.read(worker).total(metrics.CANCELLED, dynamo_endpoint=metrics.SERVING)
    with Idle(worker) as idle, faults.injected(trial, faults.Cancel(stream, frontend)) as hold:
        moment = idle.wait(hold.injected_at, hold.injected_at + float(load["recovery_seconds"]))
    after = metrics.read(worker).total(metrics.CANCELLED, dynamo_endpoint=metrics.SERVING)
    spent = None if moment is None else round(moment - hold.injected_at, 3)
    evidence: Evidence = {
        "worker": worker.name,
        "tokens_before": streams.delivered(stream.result()),
        "asked_tokens": int(load["cancel_tokens"]),
        "stopped_after_seconds": spent,
        "cancellations": after - before,
        "fault": hold.evidence,
    }
    if spent is None or spent > float(load["cancel_seconds"]):
        raise CheckFailed(
            f"{worker.name} was at work on a request whose client had gone, "
            + ("to the end" if spent is None else f"{spent:g} s long")
            + f"; {load['cancel_seconds']} s are allowed",
            evidence,
            hint=f"{metrics.UNDER_WAY} in its /metrics; its log has `request cancellation received`",
        )
    if after != before + 1:
        raise CheckFailed(
            f"{worker.name} counts {after - before} cancellations, and one client has gone",
            evidence,
            hint=f"{metrics.CANCELLED} in its /metrics",
        )
    return evidence


class Idle:
    """Looks, all the time, whether a worker has no request under way. To be entered before what ends its work."""

    def __init__(self, worker: Service) -> None:
        self._worker = worker
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._seen: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            done = exercise.get(f"{self._worker.url}/metrics", _METRICS_SECONDS)
            if done.status == 200:
                now = metrics.parse(done.body or "")
                self._seen.append((time.monotonic(), now.total(metrics.UNDER_WAY, dynamo_endpoint=metrics.SERVING)))

    def wait(self, since: float, until: float) -> float | None:
        """Return when it was seen without work first after a moment; None if it was not until another one."""
        while True:
            found = next((at for at, count in list(self._seen) if at >= since and count == 0), None)
            if found is not None or time.monotonic() > until:
                return found
            time.sleep(_LOOK_SECONDS)
