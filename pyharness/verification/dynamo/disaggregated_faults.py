"""Faults of a disaggregated deployment: a prefill worker is killed while others decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import faults
from pyharness.verification.dynamo import streams, worker_faults
from pyharness.verification.dynamo.pulse import errors_bounded

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial


def prefill_kill_survived(trial: Trial, seed: str) -> Evidence:
    """Check that a stream whose prefill worker is killed is whole, and that the other prefills for all who ask."""
    load = trial.workload
    stream = streams.begin(trial, seed, int(load["stream_tokens"]))
    victim = streams.under_way(trial, stream, "prefill")
    with worker_faults.under_load(trial, faults.Kill(victim), victim, stream) as (pulse, hold):
        evidence = streams.whole(stream.result(), int(load["stream_tokens"]))
    evidence |= errors_bounded(
        pulse.between(hold.injected_at), int(load["failures_of_prefill"]), "from the kill to the recovery"
    )
    return {**evidence, "fault": hold.evidence}
