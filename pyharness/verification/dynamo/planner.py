"""Dynamo's planner: the arithmetic of its replicas, by what is recorded of a load.

The planner of ai-dynamo 1.6.1 reads the frontend's metrics of an interval (`planner/monitoring/traffic_metrics.py`) and
wants ceil(requests per second / requests per second of one engine) replicas of each kind, at least one
(`planner/core/throughput_scaling.py`). One prefill engine does 1 / (seconds of one prefill) of them
(`planner/core/perf_model/prefill.py`), one decode engine B / (output tokens x seconds of a token) with B at a time
(`planner/core/perf_model/decode.py`). The planner itself cannot run here (see `planner_program`), so its arithmetic is
done here.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, metrics
from pyharness.verification.dynamo.pulse import Pulse, errors_bounded

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

# What the planner reads of a frontend, each a histogram whose sum and count have grown in the interval.
_AVERAGES = {
    "ttft_seconds": "dynamo_frontend_time_to_first_token_seconds",
    "itl_seconds": "dynamo_frontend_inter_token_latency_seconds",
    "request_seconds": "dynamo_frontend_request_duration_seconds",
    "input_tokens": "dynamo_frontend_input_sequence_tokens",
    "output_tokens": "dynamo_frontend_output_sequence_tokens",
}
_STARTED = "dynamo_frontend_requests_started_total"


@dataclass(frozen=True)
class Load:
    """What a frontend counted in an interval, as the planner reads it. Averages are None where there was nothing.

    Attributes:
        rate: requests per second.
        averages: by name: seconds or tokens of a request.
        prefill: prefill workers that there were.
    """

    rate: float
    averages: dict[str, float | None]
    prefill: int

    def evidence(self) -> Evidence:
        """Return its figures."""
        return {"requests_per_second": round(self.rate, 2), "prefill_workers": self.prefill, **self.averages}


def between(before: metrics.Metrics, after: metrics.Metrics, seconds: float, prefill: int) -> Load:
    """Return what was counted between two looks at a frontend.

    Args:
        before: the first.
        after: the second.
        seconds: for how long requests were sent.
        prefill: prefill workers that there were.
    """

    def grown(name: str) -> float:
        first, second = (sum(looked.by(name, "").values()) for looked in (before, after))
        return second - first

    averages = {}
    for short, name in _AVERAGES.items():
        count = grown(f"{name}_count")
        averages[short] = round(grown(f"{name}_sum") / count, 5) if count else None
    return Load(grown(_STARTED) / seconds, averages, prefill)


def replicas(rate: float, engine_rate: float) -> int:
    """Return how many engines that do `engine_rate` requests per second are needed for `rate` of them; at least one.

    Raises:
        ValueError: an engine that does nothing.
    """
    if engine_rate <= 0:
        message = f"one engine does {engine_rate:g} requests per second"
        raise ValueError(message)
    return max(1, math.ceil(round(rate / engine_rate, 6)))


@dataclass(frozen=True)
class Lone:
    """What one engine of each kind takes for one request, when there is no other.

    Attributes:
        prefill_seconds: of one prefill, as `nvext.timing` of the answers says.
        load: what the frontend counted.
    """

    prefill_seconds: float
    load: Load


def wanted(load: Load, lone: Lone) -> dict[str, Any]:
    """Return the replicas that the planner's arithmetic wants for a load.

    Args:
        load: the load.
        lone: what one engine takes for one request.

    Raises:
        CheckFailed: the metrics lack something.
    """
    itl, tokens = (lone.load.averages.get(name) for name in ("itl_seconds", "output_tokens"))
    if not lone.prefill_seconds or not itl or not tokens:
        raise CheckFailed(
            f"nothing is told of what the planner reads: a prefill takes {lone.prefill_seconds:g} s, a token {itl} s, "
            f"an answer has {tokens} tokens",
            {"one_at_a_time": lone.load.evidence()},
            hint="see the frontend's /metrics, and planner/monitoring/traffic_metrics.py for their names",
        )
    # One request at a time in decode: the least that one engine does.
    prefill_rate, decode_rate = 1 / lone.prefill_seconds, 1 / (tokens * itl)
    return {
        "prefill_engine_rate": round(prefill_rate, 2),
        "decode_engine_rate": round(decode_rate, 2),
        "prefill": replicas(load.rate, prefill_rate),
        "decode": replicas(load.rate, decode_rate),
    }


def load_of(trial: Trial, rate: float, seconds: float) -> Load:
    """Load the frontend at a steady rate, and read what it counted.

    Raises:
        CheckFailed: a request fails, or the frontend gives no metrics.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    workload = trial.workload
    prefill = len(metrics.workers(trial, ("prefill",)))
    before, started = metrics.read(frontend), time.monotonic()
    with Pulse(
        trial,
        float(workload["answer_seconds"]),
        rate=rate,
        prompt_tokens=int(workload["load_prompt_tokens"]),
        tokens=int(workload["load_tokens"]),
    ) as pulse:
        while time.monotonic() < started + seconds:
            trial.go_on()
            time.sleep(min(0.1, max(0.0, started + seconds - time.monotonic())))
    errors_bounded(pulse.beats, 0, f"at {rate:g} requests per second, with {prefill} prefill workers")
    return between(before, metrics.read(frontend), seconds, prefill)


def lone_requests(trial: Trial) -> Lone:
    """Send some requests one after the other, for what one engine takes for one.

    Raises:
        CheckFailed: one fails, or its answer does not say how long its prefill took.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    workload = trial.workload
    before, started = metrics.read(frontend), time.monotonic()
    prefills = []
    for number in range(int(workload["lone_requests"])):
        tokens = asking.prompt(f"lone {number}", int(workload["load_prompt_tokens"]))
        exchange = asking.ask(trial, tokens, int(workload["load_tokens"]))
        asking.reply(exchange)
        prefills.append(prefill_seconds(exchange.json()))
    load = between(before, metrics.read(frontend), time.monotonic() - started, 1)
    # What a busy machine adds is none of the engine's.
    return Lone(min(prefills), load)


def prefill_seconds(answer: dict[str, Any]) -> float:
    """Return how long a prefill took, as the answer says.

    Raises:
        CheckFailed: it does not say.
    """
    timing = (answer.get("nvext") or {}).get("timing") or {}
    found = timing.get("prefill_time_ms")
    if not isinstance(found, int | float) or found <= 0:
        raise CheckFailed(
            f"an answer does not say how long its prefill took: nvext.timing is {timing}",
            {"nvext": answer.get("nvext")},
            hint="it was asked for by nvext.extra_fields: [timing]",
        )
    return round(found / 1000, 5)


def as_expected(load: Load, lone: Lone, prefill: int, decode: int) -> Evidence:
    """Check that the planner's arithmetic wants so many replicas for a load that was recorded.

    Raises:
        CheckFailed: it wants others.
    """
    found = wanted(load, lone)
    evidence: Evidence = {
        "load": load.evidence(),
        "one_at_a_time": {"prefill_seconds": lone.prefill_seconds, **lone.load.evidence()},
        "wanted": found,
    }
    if (found["prefill"], found["decode"]) != (prefill, decode):
        raise CheckFailed(
            f"{load.rate:.1f} requests a second want {found['prefill']}P{found['decode']}D by the planner's sums, "
            f"instead of {prefill}P{decode}D: one engine does {found['prefill_engine_rate']:g} prefills per second, "
            f"and decodes {found['decode_engine_rate']:g}",
            evidence,
            hint="speedup_ratio and load_prompt_tokens of the workload say how fast an engine is; is the machine busy?",
        )
    return evidence


def relieved(alone: Load, both: Load, limit_seconds: float) -> Evidence:
    """Check that the load that is too much for one prefill worker is none for two.

    Args:
        alone: the load on one.
        both: the same on two.
        limit_seconds: the time to the first token that is promised (the planner's `ttft`).

    Raises:
        CheckFailed: the first token takes longer than promised with two, or takes no longer with one.
    """
    before, after = alone.averages["ttft_seconds"] or 0.0, both.averages["ttft_seconds"] or math.inf
    evidence: Evidence = {"1P1D": alone.evidence(), "2P1D": both.evidence(), "ttft_limit_seconds": limit_seconds}
    if both.prefill <= alone.prefill:
        raise CheckFailed(f"there are {both.prefill} prefill workers", evidence, hint="none has joined", class_="test")
    if after > limit_seconds or before <= after:
        raise CheckFailed(
            f"at {both.rate:.1f} requests per second the first token takes {after:.3f} s with {both.prefill} prefill "
            f"workers, and took {before:.3f} s with {alone.prefill}; {limit_seconds:g} s are promised",
            evidence,
            hint="does the router use both? See dynamo_component_requests_total of each",
        )
    return evidence
