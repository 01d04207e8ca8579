"""The verb `history`: the runs on this machine as a table, and how they have gone of late."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import arguments as common
from pyharness import history
from pyharness.changes import NOTABLE_RATIO
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyharness.history import Run

_BARS = "▁▂▃▄▅▆▇█"
_SIGNS = {"pass": ".", "fail": "F", "error": "E", "flaky": "~"}
_CAUSE = 60  # characters of a first cause in the table
# Runs of each half of a change that is told: fewer are chance.
_HALF = 3


def main(arguments: Sequence[str]) -> int:
    """Print the history.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    parser = common.parser("history", "Show the runs on this machine: what came of each, and the trend.")
    parser.add_argument("test_case", nargs="?", metavar="TEST_CASE", help="default: all")
    parser.add_argument("-i", "--inventory", type=Path, help="only runs on this; default: on all")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="the newest of each; default: 20")
    parser.add_argument("--json", action="store_true", help="for a program")
    options = parser.parse_args(arguments)
    if options.limit < 1:
        raise UsageError(f"--limit {options.limit}: has to be 1 or more")
    place = str(options.inventory.resolve()) if options.inventory else None
    found = [
        _series(history.runs(case, Path(inventory), options.limit))
        for case, inventory in history.series()
        if options.test_case in (None, case) and place in (None, inventory)
    ]
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    elif not found:
        sys.stdout.write("no run yet\n")
    else:
        sys.stdout.write("\n".join(line for entry in found for line in _lines(entry)) + "\n")
    return 0


def _series(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the runs of one test case on one inventory, the newest first, and what follows from them together."""
    passed = [run.seconds for run in runs if run.verdict == "pass"]
    entries = [_entry(run) for run in runs]
    passing = {_made_with(entry) for entry in entries if entry["verdict"] == "pass"}
    for entry in entries:
        # A failure of what has passed with the very same inputs: one of the two was chance.
        failed_once = entry["verdict"] == "fail" and _made_with(entry) in passing
        entry["unsteady"] = entry["verdict"] == "flaky" or failed_once
    half = len(passed) // 2
    change = None
    if half >= _HALF:
        change = round(statistics.median(passed[:half]) / statistics.median(passed[half:]), 3)
    return {
        "test_case": runs[0].test_case,
        "inventory": runs[0].inventory,
        "passed": len(passed),
        "median_seconds": round(statistics.median(passed), 3) if passed else None,
        "median_change": change,
        "runs": entries,
    }


def _entry(run: Run) -> dict[str, Any]:
    report = run.report
    first = next((failure for failure in report.get("failures") or () if not failure.get("consequence")), None)
    artifacts = report.get("artifacts") or {}
    return {
        "run_id": run.run_id,
        "started_at": run.started_at,
        "verdict": run.verdict,
        "simulated": report.get("simulated"),
        "seconds": run.seconds,
        "trials": len(report.get("models") or ()),
        "first_cause": _cause(first) if first and run.verdict != "pass" else None,
        "rule": first.get("rule") if first else None,
        "wheel": artifacts.get("wheel"),
        "image": artifacts.get("image"),
    }


def _cause(failure: Mapping[str, Any]) -> str:
    return f"{failure['class']}: {failure['check']}: {(failure['evidence'].splitlines() or [''])[0]}"


def _made_with(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    wheel, image = entry["wheel"] or {}, entry["image"] or {}
    return (wheel.get("sha256"), image.get("digest"), entry["trials"])


def _lines(entry: Mapping[str, Any]) -> list[str]:
    runs, oldest_first = entry["runs"], entry["runs"][::-1]
    count = len(runs)
    told = f"{entry['passed']} of {count} passed ({100 * entry['passed'] / count:.0f} %)"
    if entry["median_seconds"] is not None:
        told += f", median {entry['median_seconds']:.1f} s"
    if entry["median_change"] is not None:
        flag = " !" if not 1 / NOTABLE_RATIO < entry["median_change"] < NOTABLE_RATIO else ""
        told += f" ({100 * (entry['median_change'] - 1):+.0f} % against the older half{flag})"
    unsteady = sum(1 for run in runs if run["unsteady"])
    told += f", {unsteady} unsteady" if unsteady else ""
    rows = [("when", "run", "verdict", "seconds", "wheel", "first cause")]
    rows += [
        (
            run["started_at"].rstrip("Z").replace("T", " "),
            run["run_id"],
            run["verdict"] + (" ~" if run["unsteady"] else ""),
            f"{run['seconds']:.1f}",
            _wheel(run["wheel"]),
            _short(run["first_cause"] or ""),
        )
        for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    table = [
        "  ".join(
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, [*widths, 0], strict=True))
        ).rstrip()
        for row in rows
    ]
    signs = "".join(_SIGNS.get(run["verdict"], "?") for run in oldest_first)
    return [
        f"{entry['test_case']} on {_place(entry['inventory'])}: {told}",
        f"  {_bars([run['seconds'] for run in oldest_first])}  seconds, the newest at the right",
        f"  {signs}  . pass, F fail, E error, ~ flaky",
        *(f"  {line}" for line in table),
        "",
    ]


def _bars(values: Sequence[float]) -> str:
    """Return a bar for each value; the highest is that of the longest run."""
    most = max(values, default=0) or 1
    return "".join(_BARS[min(int(value / most * len(_BARS)), len(_BARS) - 1)] for value in values)


def _wheel(wheel: Mapping[str, Any] | None) -> str:
    """Return a wheel's version and the beginning of its digest: one version may be built twice."""
    if not wheel:
        return ""
    parts = str(wheel["file"]).split("-")
    return f"{parts[1] if len(parts) > 1 else wheel['file']} {str(wheel['sha256'])[:8]}"


def _place(inventory: str) -> str:
    path, here = Path(inventory), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else inventory


def _short(text: str) -> str:
    return text if len(text) <= _CAUSE else text[: _CAUSE - 1] + "…"
