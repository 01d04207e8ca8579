"""What runs came to on this machine: reports by test case and inventory, for comparison, trends and durations."""

from __future__ import annotations

import json
import statistics
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import history_database as databases
from pyharness import redaction
from pyharness.errors import UsageError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyharness.results import Report

_KEPT = 500  # runs of one test case on one inventory: years of nightly runs
# Enough for a median that one cold run does not move.
_DURATIONS = 5
_SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Run:
    """One run as it is kept.

    Attributes:
        run_id: sorts by time.
        inventory: the inventory's absolute path.
        seconds: from the first to the last moment.
        report: what report.json held.
    """

    run_id: str
    test_case: str
    inventory: str
    verdict: str
    started_at: str
    seconds: float
    report: Mapping[str, Any]


def record(report: Report, inventory: Path, tell: Callable[[str], object] = databases.tell_on_stderr) -> None:
    """Keep what came of a run, without its secrets. Where that cannot be done, a line says so.

    Args:
        report: the judged report.
        inventory: where it ran.
        tell: is given that line.
    """
    document = redaction.redact_value(report.to_json())
    place, trials = str(inventory.resolve()), _trials(model.trial for model in report.models)
    body = zlib.compress(json.dumps(document).encode())
    row = (report.run_id, report.test_case, place, trials, report.verdict, report.started_at)

    def write(database: sqlite3.Connection) -> None:
        with database:
            database.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, report.timing.total, body)
            )
            database.execute(
                "DELETE FROM runs WHERE test_case = ?1 AND inventory = ?2 AND run_id NOT IN (SELECT run_id FROM runs"
                " WHERE test_case = ?1 AND inventory = ?2 ORDER BY run_id DESC LIMIT ?3)",
                (report.test_case, place, _KEPT),
            )

    databases.use(write, None, create=True, tell=tell)


def last_green(test_case: str, inventory: Path, before: str | None = None) -> Mapping[str, Any] | None:
    """Return the report.json of the last run that passed; None if there is none.

    Args:
        test_case: its name.
        inventory: where it has to have run.
        before: only runs that began before this run id.
    """
    found = runs(test_case, inventory, 1, verdict="pass", before=before)
    return found[0].report if found else None


def runs(
    test_case: str | None = None,
    inventory: Path | None = None,
    limit: int = 20,
    *,
    verdict: str | None = None,
    before: str | None = None,
) -> list[Run]:
    """Return the newest runs, the newest first.

    Args:
        test_case: only of this; default: of all.
        inventory: only on this; default: on all.
        limit: how many at most.
        verdict: only with this; default: with any.
        before: only those that began before this run id.
    """
    return _select(
        "(?1 IS NULL OR test_case = ?1) AND (?2 IS NULL OR inventory = ?2) AND (?3 IS NULL OR verdict = ?3)"
        " AND (?4 IS NULL OR run_id < ?4)",
        (test_case, str(inventory.resolve()) if inventory else None, verdict, before),
        limit,
    )


def series() -> list[tuple[str, str]]:
    """Return every test case with each inventory that it ran on, by name."""

    def read(database: sqlite3.Connection) -> list[tuple[str, str]]:
        return database.execute("SELECT DISTINCT test_case, inventory FROM runs ORDER BY 1, 2").fetchall()

    return databases.use(read, [])


def median(test_case: str, inventory: Path, trials: Sequence[str]) -> tuple[float, int] | None:
    """Return the median duration in seconds of the last passing runs, and how many those are; None without any.

    Args:
        test_case: its name.
        inventory: where it ran.
        trials: all of the test case: a run of a part of them takes less and says nothing.
    """

    def read(database: sqlite3.Connection) -> list[float]:
        rows = database.execute(
            "SELECT seconds FROM runs WHERE test_case = ? AND inventory = ? AND trials = ? AND verdict = 'pass'"
            " ORDER BY run_id DESC LIMIT ?",
            (test_case, str(inventory.resolve()), _trials(trials), _DURATIONS),
        )
        return [seconds for (seconds,) in rows]

    nothing: list[float] = []
    took = databases.use(read, nothing)
    return (statistics.median(took), len(took)) if took else None


def find(which: str) -> Mapping[str, Any]:
    """Return the report.json of a run.

    Args:
        which: a run id, its beginning, or the path of a results folder or of a report.json.

    Raises:
        UsageError: there is no such run, more than one, or the file cannot be read.
    """
    if (file := _report_file(Path(which))) is not None:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file}: cannot be read ({error}); name another run") from None
        if not isinstance(document, dict) or "run_id" not in document:
            raise UsageError(f"{file}: is no report of this harness; name a results folder or a run id")
        return document
    if len(which) < _SHORTEST_PREFIX:
        raise UsageError(f"{which}: is no results folder, and too short for a run id; see: python -m pyharness history")
    found = _select("substr(run_id, 1, ?1) = ?2", (len(which), which), 6)
    exact = [run for run in found if run.run_id == which] or found
    if not exact:
        raise UsageError(
            f"{which}: there is no such results folder, and no such run in {databases.path()}; see: history"
        )
    if len(exact) > 1:
        told = ", ".join(f"{run.run_id} ({run.test_case})" for run in exact[:5])
        raise UsageError(f"{which}: is the beginning of several runs: {told}{' …' if len(exact) > 5 else ''}")
    return exact[0].report


def _report_file(given: Path) -> Path | None:
    """Return the report.json that a path names: itself, in a folder, or in the one case's folder below it."""
    if given.is_file():
        return given
    if (given / "report.json").is_file():
        return given / "report.json"
    below = sorted(given.glob("*/report.json")) if given.is_dir() else []
    return below[0] if len(below) == 1 else None


def _trials(names: Iterable[str]) -> str:
    return json.dumps(sorted(names))


def _select(where: str, values: tuple[Any, ...], limit: int) -> list[Run]:
    def read(database: sqlite3.Connection) -> list[Run]:
        rows = database.execute(
            "SELECT run_id, test_case, inventory, verdict, started_at, seconds, report FROM runs"  # noqa: S608
            f" WHERE {where} ORDER BY run_id DESC LIMIT {int(limit)}",
            values,
        )
        return [
            Run(run, case, place, came_to, began, seconds, json.loads(zlib.decompress(body)))
            for run, case, place, came_to, began, seconds, body in rows
        ]

    return databases.use(read, [])
