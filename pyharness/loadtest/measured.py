"""What aiperf measured: one turn's requests and figures, read from the files that it leaves."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness.errors import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.loadtest.generator import Ended
    from pyharness.loadtest.plan import Turn

RECORDS = "profile_export.jsonl"
FIGURES = "profile_export_aiperf.json"
# aiperf's names (docs/metrics_reference.md of its repository), and what bench.json calls them.
_DISTRIBUTIONS = {
    "time_to_first_token": "time_to_first_token_ms",
    "inter_token_latency": "inter_token_latency_ms",
    "request_latency": "request_latency_ms",
}
_VALUES = {
    "request_throughput": "requests_per_second",
    "output_token_throughput": "output_tokens_per_second",
    "input_sequence_length": "input_tokens",
    "output_sequence_length": "output_tokens",
    "usage_prompt_tokens": "input_tokens_by_service",
    "total_usage_prompt_cache_read_tokens": "cached_input_tokens",
    "effective_concurrency": "concurrency",
    "benchmark_duration": "seconds",
}
_STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p99": "p99", "min": "min", "max": "max"}
_ERROR = 200  # characters


@dataclass(frozen=True)
class Measure:
    """One turn.

    Attributes:
        run: which of the runs.
        point: concurrency, input_tokens and output_tokens, as asked for.
        seed: of its prompts.
        load: the machine's load of the last minute before it began.
        load_after: after it.
        tool_seconds: from the start of aiperf to its end.
        requests: those that were sent; the warm-up is none of them.
        succeeded: those that were answered, to the end and with tokens.
        errors: by what went wrong how many.
        figures: what was measured of those that succeeded; empty where nothing could be. Unknown is not there.
        problem: why it is not measured; None where it is.
        raw: the folder of aiperf's own output, below the results.
    """

    run: int
    point: dict[str, int]
    seed: int
    load: float
    load_after: float
    tool_seconds: float
    requests: int
    succeeded: int
    errors: dict[str, int]
    figures: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    raw: str = ""

    @property
    def failed(self) -> int:
        """How many requests did not succeed."""
        return sum(self.errors.values())


def read(turn: Turn, ended: Ended, folder: Path, wanted: int | None, load: tuple[float, float]) -> Measure:
    """Read what aiperf left of a turn.

    A request has succeeded only where aiperf's own record of it says so. Whatever else was to be sent is an error.

    Args:
        turn: what was measured.
        ended: how aiperf ended.
        folder: its results.
        wanted: how many requests were to be sent; None where time decided.
        load: the machine's, before and after.
    """
    errors: Counter[str] = Counter()
    succeeded = 0
    problem: str | None = None
    figures: dict[str, Any] = {}
    try:
        for record in records(folder):
            if record.get("error") or record["metadata"].get("was_cancelled"):
                errors[_error(record)] += 1
            else:
                succeeded += 1
        if wanted is not None and succeeded + errors.total() < wanted:
            errors["not sent, or not answered before aiperf ended"] = wanted - succeeded - errors.total()
        if succeeded:
            figures = read_figures(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"what aiperf left cannot be read: {error!r}"
    if ended.code is None:
        problem = f"aiperf was ended after {ended.seconds:.0f} s, when it should have been done: {ended.last}"
    elif problem is None and not succeeded:
        most = ", ".join(f"{count} x {text}" for text, count in errors.most_common(1))
        problem = f"no request succeeded: {most}" if most else f"aiperf ended with {ended.code}: {ended.last}"
    elif ended.code != 0:
        problem = f"aiperf ended with {ended.code}: {ended.last}"
    elif not figures:
        problem = problem or f"aiperf left no figures in {FIGURES}"
    return Measure(
        run=turn.run,
        point={
            "concurrency": turn.point.concurrency,
            "input_tokens": turn.point.input_tokens,
            "output_tokens": turn.point.output_tokens,
        },
        seed=turn.seed,
        load=round(load[0], 2),
        load_after=round(load[1], 2),
        tool_seconds=round(ended.seconds, 1),
        requests=succeeded + errors.total(),
        succeeded=succeeded,
        errors=dict(errors.most_common()),
        figures={} if problem else figures,
        problem=one_line(problem) if problem else None,
    )


def records(folder: Path) -> list[dict[str, Any]]:
    """Return aiperf's records of the requests that were measured; none where it came to no request.

    Raises:
        OSError: they cannot be read.
        ValueError: a line is no JSON.
    """
    path = folder / RECORDS
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [record for record in found if record["metadata"]["benchmark_phase"] == "profiling"]


def read_figures(folder: Path) -> dict[str, Any]:
    """Return aiperf's figures under the names of bench.json; times in ms, what it does not have is left out.

    Raises:
        OSError: they cannot be read.
        ValueError: they are no JSON.
    """
    path = folder / FIGURES
    if not path.exists():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    result: dict[str, Any] = {}
    for name, own in _DISTRIBUTIONS.items():
        if name in document:
            given = document[name]
            result[own] = {ours: round(given[theirs], 3) for theirs, ours in _STATISTICS.items() if theirs in given}
    for name, own in _VALUES.items():
        if name in document:
            result[own] = round(document[name]["avg"], 3)
    return result


def _error(record: dict[str, Any]) -> str:
    error = record.get("error") or {"message": "cancelled"}
    words = [str(error[key]) for key in ("code", "type", "message") if error.get(key) is not None]
    return one_line(" ".join(words))[:_ERROR]
