"""RESULTS/metrics.prom: verdicts and durations of the newest run of each test case, for Prometheus.

OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), in the part of it that the older text format
has too: node_exporter's textfile collector reads that one, and refuses a file with a time stamp or with a type that it
does not know, such as `stateset`. So all are gauges: moments are values in seconds, and a verdict is a set of gauges
of which one is 1.
"""

from __future__ import annotations

import json
import typing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from pyharness.results import FailureClass, Report, Status, Verdict
from pyharness.results_dir import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NAME = "metrics.prom"
_OF_RUN = ["test_case", "inventory"]


def write(results: Path, report: Report) -> Path:
    """Write the metrics of a results folder, whole or not at all.

    Args:
        results: the folder that holds one folder per test case; the newest run of each is taken from its report.json.
        report: the run that has just ended; counts for its test case, whatever is written there.

    Returns:
        the file's path.

    Raises:
        OSError: it cannot be written.
    """
    newest = {}
    for file in results.glob("*/report.json"):
        try:
            newest[file.parent.name] = Report.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue  # of another version of the harness, or of something else
    newest[report.test_case] = report
    path = results / NAME
    write_atomically(path, text([found for _name, found in sorted(newest.items())]))
    return path


def text(reports: Iterable[Report]) -> str:
    """Return the metrics of runs as OpenMetrics. A run that has not ended has none."""
    registry = CollectorRegistry()
    registry.register(_Runs([report for report in reports if report.finished_at]))
    return str(generate_latest(registry).decode())


class _Runs(Collector):
    """The metrics of several runs, for prometheus_client."""

    def __init__(self, reports: list[Report]) -> None:
        self._reports = reports

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics, family by family."""
        for name, told, labels, samples in _FAMILIES:
            unit = "seconds" if name.endswith("_seconds") else ""
            family = GaugeMetricFamily(f"disagg_e2e_{name}", told, labels=[*_OF_RUN, *labels], unit=unit)
            for report in self._reports:
                for more, value in samples(report):
                    family.add_metric([report.test_case, report.inventory, *more], value)
            yield family


def _verdicts(report: Report) -> Iterator[tuple[list[str], float]]:
    for verdict in typing.get_args(Verdict):
        yield [verdict], float(verdict == report.verdict)


def _trials(report: Report) -> Iterator[tuple[list[str], float]]:
    for model in report.models:
        for verdict in typing.get_args(Verdict):
            yield [model.trial, verdict], float(verdict == model.verdict)


def _timings(report: Report) -> Iterator[tuple[list[str], float]]:
    for part, seconds in report.timing:
        yield [part], float(seconds)


def _phases(report: Report) -> Iterator[tuple[list[str], float]]:
    took: dict[tuple[str, str], float] = {}
    for phase in report.phases:
        key = (phase.name, phase.trial or "")
        took[key] = took.get(key, 0.0) + phase.seconds
    for key, seconds in took.items():
        yield list(key), round(seconds, 3)


def _began(report: Report) -> Iterator[tuple[list[str], float]]:
    yield [], _epoch(report.started_at)


def _ended(report: Report) -> Iterator[tuple[list[str], float]]:
    yield [], _epoch(report.finished_at or report.started_at)


def _checks(report: Report) -> Iterator[tuple[list[str], float]]:
    of_trials = [check for model in report.models for check in model.checks]
    found = [check.status for check in [*of_trials, *report.checks]]
    for status in typing.get_args(Status):
        yield [status], float(found.count(status))


def _failures(report: Report) -> Iterator[tuple[list[str], float]]:
    found = [failure.class_ for failure in report.failures]
    for class_ in typing.get_args(FailureClass):
        yield [class_], float(found.count(class_))


def _known_defects(report: Report) -> Iterator[tuple[list[str], float]]:
    found = [seen.state for seen in report.known_defects]
    for state in ("shows", "gone", "not_judged"):
        yield [state], float(found.count(state))


def _details(report: Report) -> Iterator[tuple[list[str], float]]:
    wheel, image = report.artifacts.get("wheel") or {}, report.artifacts.get("image") or {}
    values = [
        report.run_id,
        report.engine.get("name"),
        report.engine.get("platform"),
        report.transport.used,
        "" if report.simulated is None else str(report.simulated).lower(),
        wheel.get("sha256"),
        image.get("digest"),
    ]
    yield [str(value or "") for value in values], 1.0


def _epoch(moment: str) -> float:
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


_Samples = typing.Callable[[Report], typing.Iterator[tuple[list[str], float]]]
# Name without its prefix, what it tells, labels beside test case and inventory, and where its values come from.
_FAMILIES: tuple[tuple[str, str, list[str], _Samples], ...] = (
    ("run_verdict", "1 for what came of the newest run, 0 for the others.", ["verdict"], _verdicts),
    ("trial_verdict", "1 for what came of each trial, 0 for the others.", ["trial", "verdict"], _trials),
    ("run_duration_seconds", "Where the time of the newest run went. Part total is all of it.", ["part"], _timings),
    ("phase_duration_seconds", "How long each phase of the newest run took.", ["phase", "trial"], _phases),
    ("run_start_timestamp_seconds", "When the newest run began.", [], _began),
    ("run_end_timestamp_seconds", "When the newest run ended.", [], _ended),
    ("run_checks", "How many checks of the newest run ended how.", ["status"], _checks),
    ("run_failures", "Failures of the newest run, by whose they are.", ["class"], _failures),
    ("run_known_defects", "Defects that the declaration knows, by what showed of them.", ["state"], _known_defects),
    (
        "run_details",
        "Always 1. The labels say what the newest run was made with.",
        ["run_id", "engine", "platform", "transport", "simulated", "wheel_sha256", "image_digest"],
        _details,
    ),
)
