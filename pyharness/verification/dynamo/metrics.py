"""What Dynamo's services count: /metrics of a frontend, and of a worker's system server.

Names and labels: ai-dynamo 1.6.1, `dynamo/prometheus_names.py`, and what its frontend and its simulated engine tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from pyharness import exercise
from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

# Of a frontend: requests that are over, by endpoint, request_type (unary, stream), status and error_type.
REQUESTS = "dynamo_frontend_requests_total"
# Of a worker: requests that it has taken; those for answers have the endpoint `generate`.
TAKEN = "dynamo_component_requests_total"
UNDER_WAY = "dynamo_component_inflight_requests"
CANCELLED = "dynamo_component_cancellation_total"
SERVING = "generate"
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Metrics:
    """The samples of one service at one moment: name, labels, value."""

    samples: tuple[tuple[str, dict[str, str], float], ...]

    def total(self, name: str, **labels: str) -> int:
        """Return the sum of a counter over all its samples with these labels; 0 where there are none."""
        return round(sum(self.by(name, "", **labels).values()))

    def by(self, name: str, *keys: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return a counter's sums by the values of some labels, of its samples with `labels`."""
        result: dict[tuple[str, ...], float] = {}
        for sample, has, value in self.samples:
            if sample == name and all(has.get(key) == wanted for key, wanted in labels.items()):
                place = tuple(has.get(key, "") for key in keys)
                result[place] = result.get(place, 0.0) + value
        return result

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _labels, _value in self.samples}


def parse(text: str) -> Metrics:
    """Read metrics.

    Raises:
        ValueError: they are not in the Prometheus text format.
    """
    families = text_string_to_metric_families(text)
    return Metrics(
        tuple((sample.name, sample.labels, sample.value) for family in families for sample in family.samples)
    )


def read(service: Service) -> Metrics:
    """Ask a service for its metrics.

    Raises:
        CheckFailed: it gives none.
    """
    exchange = exercise.get(f"{service.url}/metrics", _ANSWER_SECONDS)
    problem = exchange.problem or (f"HTTP {exchange.status}" if exchange.status != 200 else None)
    try:
        if problem is None:
            return parse(exchange.body or "")
    except ValueError as error:
        problem = str(error)
    raise CheckFailed(
        f"{service.name} on {service.node} gives no metrics: {problem}",
        {"url": exchange.url, "body": (exchange.body or "")[:500]},
        hint=f"read {service.log} on {service.node}; a worker whose system port is taken serves without metrics",
    )


def taken(trial: Trial, kinds: tuple[str, ...] = ("worker", "prefill", "decode")) -> dict[str, int]:
    """Return by worker how many requests for answers it has taken since its start.

    Raises:
        CheckFailed: a worker does not say.
    """
    return {service.name: read(service).total(TAKEN, dynamo_endpoint=SERVING) for service in workers(trial, kinds)}


def workers(trial: Trial, kinds: tuple[str, ...] = ("worker", "prefill", "decode")) -> list[Service]:
    """Return the workers that run now, those that joined later too."""
    found = [service for service in trial.deployment.services if service.kind in kinds]
    return [now for service in found if (now := trial.nodes.current(service)) is not None]


def worker_ids(trial: Trial) -> dict[int, str]:
    """Return by a worker's id, as answers have it (nvext.worker_id), the service's name.

    Raises:
        CheckFailed: a worker does not say which id it has.
    """
    result = {}
    for service in workers(trial):
        # The label has it as hexadecimal digits, answers as a number.
        found = {has["worker_id"] for _name, has, _value in read(service).samples if has.get("worker_id")}
        if len(found) != 1:
            raise CheckFailed(
                f"{service.name} on {service.node} has {len(found)} ids in its metrics, and it ought to have one",
                {"worker_ids": sorted(found)},
                hint="without it nobody knows who has answered: see the worker's /metrics",
            )
        result[int(found.pop(), 16)] = service.name
    return result
