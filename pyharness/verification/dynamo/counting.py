"""A frontend's and its workers' metrics count exactly the requests that were sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import metrics
from pyharness.verification.dynamo.asking import CHAT

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from pyharness.verification.dynamo.metrics import Metrics

# What a dashboard needs. Histograms by their count.
FRONTEND = (
    metrics.REQUESTS,
    "dynamo_frontend_inflight_requests",
    "dynamo_frontend_queued_requests",
    "dynamo_frontend_disconnected_clients",
    "dynamo_frontend_request_duration_seconds_count",
    "dynamo_frontend_time_to_first_token_seconds_count",
    "dynamo_frontend_inter_token_latency_seconds_count",
    "dynamo_frontend_input_sequence_tokens_sum",
    "dynamo_frontend_output_sequence_tokens_sum",
    "dynamo_frontend_model_kv_cache_block_size",
)
WORKER = (
    metrics.TAKEN,
    metrics.UNDER_WAY,
    metrics.CANCELLED,
    "dynamo_component_request_bytes_total",
    "dynamo_component_response_bytes_total",
    "dynamo_component_request_duration_seconds_count",
    "dynamo_component_uptime_seconds",
)
# A request is counted when it is over, a moment after its client has the answer.
_LATE_SECONDS = 3.0
_UNDER_WAY = "dynamo_frontend_inflight_requests"
_LABELS = ("endpoint", "request_type", "status", "error_type")


@dataclass
class Ledger:
    """What was sent.

    Attributes:
        requests: by endpoint, type, status and kind of error, as the frontend's labels have them.
        prompt_tokens, answer_tokens: of those that were answered.
        to_workers: requests that a worker has seen.
    """

    requests: Counter[tuple[str, ...]] = field(default_factory=Counter)
    prompt_tokens: int = 0
    answer_tokens: int = 0
    to_workers: int = 0

    def answered(self, path: str, usage: dict[str, Any], *, streamed: bool) -> None:
        """Take a request that was answered."""
        self.requests[key(path, streamed=streamed)] += 1
        self.prompt_tokens += int(usage["prompt_tokens"])
        self.answer_tokens += int(usage["completion_tokens"])
        self.to_workers += 1

    def refused(self, path: str, error: str, *, streamed: bool, by_worker: bool = False) -> None:
        """Take a request that came to an error."""
        self.requests[key(path, streamed=streamed, error=error)] += 1
        self.to_workers += by_worker


def key(path: str, *, streamed: bool, error: str = "") -> tuple[str, ...]:
    """Return how the frontend labels a request: endpoint, type, status, kind of error."""
    endpoint = "chat_completions" if path == CHAT else "completions"
    return endpoint, "stream" if streamed else "unary", "error" if error else "success", error


@dataclass(frozen=True)
class Counts:
    """What was counted at one moment."""

    frontend: Metrics
    workers: dict[str, Metrics]

    @property
    def requests(self) -> Counter[tuple[str, ...]]:
        """The frontend's requests, by the same labels as a ledger's."""
        found = self.frontend.by(metrics.REQUESTS, *_LABELS)
        return Counter({labels: round(value) for labels, value in found.items()})

    @property
    def taken(self) -> dict[str, int]:
        """By worker the requests that it has taken."""
        return {name: one.total(metrics.TAKEN, dynamo_endpoint=metrics.SERVING) for name, one in self.workers.items()}

    def tokens(self, which: str) -> int:
        """Return the tokens of all requests: `input` or `output`."""
        return self.frontend.total(f"dynamo_frontend_{which}_sequence_tokens_sum")


def read(trial: Trial) -> Counts:
    """Ask the frontend and all workers.

    Raises:
        CheckFailed: one gives no metrics.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    return Counts(metrics.read(frontend), {one.name: metrics.read(one) for one in metrics.workers(trial)})


def at_rest(trial: Trial) -> Counts:
    """Return what has been counted once nothing more is: a request is counted a moment after its client has the answer.

    Raises:
        CheckFailed: a service gives no metrics, or requests are under way that nobody waits for.
    """
    last = read(trial)

    def still() -> bool:
        nonlocal last
        before, last = last, read(trial)
        busy = last.frontend.total(_UNDER_WAY) or any(one.total(metrics.UNDER_WAY) for one in last.workers.values())
        return not busy and (before.requests, before.taken) == (last.requests, last.taken)

    quiet, seconds = waiting.until(still, _LATE_SECONDS)
    if not quiet:
        raise CheckFailed(
            f"{seconds} s after the last answer the frontend has {last.frontend.total(_UNDER_WAY)} requests under way",
            {"counted": _readable(last.requests), "taken": last.taken},
            hint="somebody else uses this frontend, or a request has been left behind",
        )
    return last


def metrics_present(counts: Counts) -> Evidence:
    """Check that the metrics that a dashboard needs are there."""
    missing = {"frontend": sorted(set(FRONTEND) - counts.frontend.names)}
    missing |= {name: sorted(set(WORKER) - one.names) for name, one in counts.workers.items()}
    lacking = {name: absent for name, absent in missing.items() if absent}
    if lacking:
        raise CheckFailed(
            "; ".join(f"{name} has no {', '.join(absent)}" for name, absent in lacking.items()),
            {"missing": lacking},
            hint="Dynamo may have renamed them: see the service's /metrics",
        )
    return {
        "frontend": len(FRONTEND),
        "each_worker": len(WORKER),
        "series": {"frontend": len(counts.frontend.samples), **{n: len(m.samples) for n, m in counts.workers.items()}},
    }


def requests_counted(trial: Trial, before: Counts, sent: Ledger) -> Evidence:
    """Check that the frontend and the workers count what was sent since, no more and no less.

    Args:
        trial: whose services.
        before: what they had counted before.
        sent: what was sent since.
    """
    wanted = {
        "requests": sent.requests,
        "input_tokens": sent.prompt_tokens,
        "output_tokens": sent.answer_tokens,
        "to_workers": sent.to_workers,
    }

    def counted() -> dict[str, Any]:
        after = read(trial)
        since = after.requests.copy()
        since.subtract(before.requests)
        return {
            "requests": Counter({labels: count for labels, count in since.items() if count}),
            "input_tokens": after.tokens("input") - before.tokens("input"),
            "output_tokens": after.tokens("output") - before.tokens("output"),
            "to_workers": sum(after.taken.values()) - sum(before.taken.values()),
            "by_worker": {name: count - before.taken.get(name, 0) for name, count in after.taken.items()},
        }

    last: dict[str, Any] = {}

    def as_sent() -> bool:
        last.clear()
        last.update(counted())
        return all(last[name] == value for name, value in wanted.items())

    right, seconds = waiting.until(as_sent, _LATE_SECONDS)
    evidence: dict[str, Any] = {
        "sent": {**wanted, "requests": _readable(sent.requests)},
        "counted": {**last, "requests": _readable(last["requests"])},
        "seconds": seconds,
    }
    if not right:
        differing = [name for name, value in wanted.items() if last[name] != value]
        name = differing[0]
        raise CheckFailed(
            f"metrics count {evidence['counted'][name]} {name}, and {evidence['sent'][name]} were sent",
            evidence,
            hint="somebody else may use this frontend, or it counts requests twice or not at all",
        )
    return evidence


def counted_as(trial: Trial, before: Counts, wanted: Counter[tuple[str, ...]]) -> Evidence:
    """Check under which labels some requests were counted.

    Args:
        trial: whose frontend.
        before: what was counted before.
        wanted: what has to have been added since.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    since: Counter[tuple[str, ...]] = Counter()

    def all_counted() -> bool:
        since.clear()
        since.update(Counts(metrics.read(frontend), {}).requests)
        since.subtract(before.requests)
        return since.total() >= wanted.total()

    waiting.until(all_counted, _LATE_SECONDS)
    evidence = {"wanted": _readable(wanted), "counted": _readable(+since)}
    if +since != wanted:
        raise CheckFailed(
            f"counted as {evidence['counted']}, and {evidence['wanted']} is what they were",
            evidence,
            hint="an alarm on this kind of error does not see them",
        )
    return evidence


def _readable(requests: Counter[tuple[str, ...]]) -> dict[str, int]:
    return {" ".join(filter(None, labels)): count for labels, count in sorted(requests.items())}
