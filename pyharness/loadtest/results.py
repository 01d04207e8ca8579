"""bench.json: every turn, medians by point, and what they are to those of the first point."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyharness import bars, results_dir
from pyharness.html_report import style

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pyharness.loadtest.measured import Measure

SCHEMA_VERSION = 1
# Of each point the medians over the runs: in bench.json its name, and the way to it in the figures of a turn.
MEDIANS = {
    "requests_per_second": ("requests_per_second",),
    "output_tokens_per_second": ("output_tokens_per_second",),
    "time_to_first_token_p50_ms": ("time_to_first_token_ms", "p50"),
    "time_to_first_token_p99_ms": ("time_to_first_token_ms", "p99"),
    "inter_token_latency_p50_ms": ("inter_token_latency_ms", "p50"),
    "inter_token_latency_p99_ms": ("inter_token_latency_ms", "p99"),
    "request_latency_p50_ms": ("request_latency_ms", "p50"),
    "request_latency_p99_ms": ("request_latency_ms", "p99"),
    "output_tokens": ("output_tokens",),
    "cached_input_tokens": ("cached_input_tokens",),
}


@dataclass(frozen=True)
class Summary:
    """A point over its runs.

    Attributes:
        point: as asked for.
        runs: how many were measured, of how many.
        requests: sent, in all runs.
        failed: those of them that did not succeed.
        medians: of each figure over the runs that were measured; None where it is not known.
        ratios: of the medians to those of the first point; None where one of the two is not known, or nothing.
    """

    point: dict[str, int]
    runs: tuple[int, int]
    requests: int
    failed: int
    medians: dict[str, float | None]
    ratios: dict[str, float | None]


def summarise(measures: Iterable[Measure]) -> list[Summary]:
    """Return the points in the order in which they were first measured."""
    by_point: dict[tuple[int, ...], list[Measure]] = {}
    for measure in measures:
        by_point.setdefault(tuple(measure.point.values()), []).append(measure)
    found: list[Summary] = []
    for same in by_point.values():
        medians = {name: _median(same, way) for name, way in MEDIANS.items()}
        first = found[0].medians if found else medians
        found.append(
            Summary(
                point=same[0].point,
                runs=(sum(measure.problem is None for measure in same), len(same)),
                requests=sum(measure.requests for measure in same),
                failed=sum(measure.failed for measure in same),
                medians=medians,
                ratios={name: _ratio(value, first[name]) for name, value in medians.items()},
            )
        )
    return found


def _median(same: list[Measure], way: tuple[str, ...]) -> float | None:
    values = []
    for measure in same:
        value: Any = measure.figures
        for step in way:
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            values.append(float(value))
    return round(statistics.median(values), 3) if values else None


def _ratio(value: float | None, first: float | None) -> float | None:
    return round(value / first, 2) if value is not None and first else None


def document(subject: dict[str, Any], measures: list[Measure]) -> dict[str, Any]:
    """Return what bench.json holds.

    Args:
        subject: what was measured, and how.
        measures: every turn, as they were made.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        **subject,
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "points": [asdict(summary) for summary in summarise(measures)],
        "turns": [asdict(measure) for measure in measures],
    }


def charts(summaries: list[Summary]) -> dict[str, str]:
    """Return the charts by the names of their files; none where nothing was measured.

    Args:
        summaries: of the points.
    """
    known = [summary for summary in summaries if summary.runs[0]]
    if not known:
        return {}
    throughput: list[bars.Bar] = []
    latency: list[bars.Bar] = []
    for summary in known:
        below = tuple(
            f"{word} {value}" for word, value in zip(("at once", "in", "out"), summary.point.values(), strict=True)
        )
        tokens = summary.medians["output_tokens_per_second"] or 0.0
        throughput.append(bars.Bar({"output tokens/s": tokens}, f"{tokens:.0f}", below))
        whole = summary.medians["request_latency_p50_ms"] or 0.0
        first = min(summary.medians["time_to_first_token_p50_ms"] or 0.0, whole)
        parts = {"first token": first, "the rest": whole - first}
        latency.append(bars.Bar(parts, f"{first:.0f} + {whole - first:.0f}", below))
    return {
        "throughput.svg": bars.svg(
            "Output tokens per second by point", "Output tokens per second, median of the runs", "tokens/s", throughput
        ),
        "latency.svg": bars.svg(
            "Latency of a request by point: to its first token, and the rest",
            "Latency of a request in ms, p50: to its first token, and the rest",
            "ms",
            latency,
        ),
    }


def begin(folder: Path, test_case: str) -> None:
    """Write the bench.json of a sweep that has measured nothing yet.

    Raises:
        OSError: it cannot be written.
    """
    empty = document({"test_case": test_case, "nodes_clean": None}, [])
    results_dir.write_atomically(folder / "bench.json", json.dumps(empty, indent=2) + "\n")


def write(folder: Path, found: dict[str, Any], measures: list[Measure]) -> None:
    """Write bench.json, the charts and bench.html.

    Args:
        folder: for the results.
        found: what `document` returned.
        measures: every turn.

    Raises:
        OSError: they cannot be written.
    """
    summaries = summarise(measures)
    drawn = charts(summaries)
    results_dir.write_atomically(folder / "bench.json", json.dumps(found, indent=2) + "\n")
    for name, chart in drawn.items():
        results_dir.write_atomically(folder / name, chart)
    page = style.template("bench.html.j2").render(
        it=found,
        charts=[bars.inline(chart) for chart in drawn.values()],
        summaries=summaries,
        turns=measures,
        trouble=[measure for measure in measures if measure.problem or measure.errors],
        subject=json.dumps({k: v for k, v in found.items() if k not in ("points", "turns")}, indent=2),
    )
    results_dir.write_atomically(folder / "bench.html", page)


def table(summaries: list[Summary]) -> str:
    """Return the medians as a table that a person reads."""
    head = ["at once", "in", "out", "req/s", "x", "tokens/s", "x", "TTFT p50 ms", "p99", "ITL p50 ms", "p99", "failed"]
    rows = [
        [
            *(str(value) for value in summary.point.values()),
            _shown(summary.medians["requests_per_second"], 2),
            _shown(summary.ratios["requests_per_second"], 2),
            _shown(summary.medians["output_tokens_per_second"], 1),
            _shown(summary.ratios["output_tokens_per_second"], 2),
            _shown(summary.medians["time_to_first_token_p50_ms"], 1),
            _shown(summary.medians["time_to_first_token_p99_ms"], 1),
            _shown(summary.medians["inter_token_latency_p50_ms"], 2),
            _shown(summary.medians["inter_token_latency_p99_ms"], 2),
            f"{summary.failed} of {summary.requests}",
        ]
        for summary in summaries
    ]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(lines) + "\n"


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
