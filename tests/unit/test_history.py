"""The history: what is kept of runs, what comes back, and that no file of it ever costs a verdict."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import history, redaction
from pyharness import history_database as databases
from pyharness.errors import UsageError
from tests.unit.builders import make_failure, make_report

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

HERE = Path("/inventories/here")


def keep(number: int, inventory: Path = HERE, *, passed: bool = True, seconds: float = 10.0, **changes: Any) -> str:
    """Keep a run; those of higher numbers are newer. Returns its id."""
    values = {"run_id": f"20260101-{number:06d}-abcd", "failures": [] if passed else [make_failure()], **changes}
    report = make_report(**values)
    report.timing.total = seconds
    report.judge()
    history.record(report, inventory)
    return report.run_id


def run_id(report: Mapping[str, Any] | None) -> str | None:
    return report["run_id"] if report else None


def test_the_last_green_run_is_of_the_same_case_on_the_same_inventory() -> None:
    keep(1)
    green = keep(2)
    keep(3, passed=False)
    keep(4, test_case="test_other")
    keep(5, inventory=Path("/inventories/elsewhere"))
    assert run_id(history.last_green("test_it", HERE)) == green
    assert history.last_green("test_nothing", HERE) is None


def test_the_last_green_run_before_another() -> None:
    first, second = keep(1), keep(2)
    assert run_id(history.last_green("test_it", HERE, before=second)) == first
    assert history.last_green("test_it", HERE, before=first) is None


def test_where_nothing_was_kept_nothing_is_made() -> None:
    assert history.last_green("test_it", HERE) is None
    assert history.runs() == []
    assert not databases.path().exists()


def test_runs_come_newest_first_and_no_more_than_asked_for() -> None:
    kept = [keep(number, passed=number % 2 == 0) for number in range(5)]
    assert [run.run_id for run in history.runs("test_it", HERE, 3)] == kept[:1:-1]
    assert [run.verdict for run in history.runs("test_it", HERE, 2)] == ["pass", "fail"]
    assert history.series() == [("test_it", str(HERE))]


def test_a_run_that_is_kept_twice_counts_once_with_its_last_verdict() -> None:
    keep(1)
    keep(1, passed=False)
    assert [run.verdict for run in history.runs()] == ["fail"]


def test_only_so_many_runs_of_a_case_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_KEPT", 3)
    keep(0, test_case="test_other")
    kept = [keep(number) for number in range(1, 6)]
    assert [run.run_id for run in history.runs("test_it")] == kept[:1:-1]
    assert len(history.runs("test_other")) == 1


def test_the_median_of_the_last_passing_runs_of_all_trials() -> None:
    for number, seconds in enumerate((90.0, 80.0, 30.0, 31.0, 33.0, 35.0)):
        keep(number, seconds=seconds)
    keep(7, seconds=5.0, passed=False)
    keep(8, seconds=6.0, models=[{"name": "org/model"}, {"name": "org/other"}])
    keep(9, Path("/inventories/elsewhere"), seconds=7.0)
    assert history.median("test_it", HERE, ["org/model"]) == (33.0, 5)
    assert history.median("test_it", Path("/inventories/elsewhere"), ["org/model"]) == (7.0, 1)
    assert history.median("test_it", HERE, ["org/third"]) is None


def test_no_secret_is_kept() -> None:
    redaction.learn("planted", "planted-0123456789")
    try:
        keep(1, passed=False, failures=[make_failure(evidence="with planted-0123456789")])
    finally:
        redaction.forget()
    (kept,) = history.runs()
    assert kept.report["failures"][0]["evidence"] == "with <redacted: planted>"


# -- one run


def test_a_run_is_found_by_its_id_by_the_beginning_of_it_and_by_its_folder(tmp_path: Path) -> None:
    kept = keep(123456)
    assert run_id(history.find(kept)) == kept
    assert run_id(history.find("20260101-1234")) == kept
    folder = tmp_path / "run" / "test_it"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text('{"run_id": "of the file"}')
    for given in (folder, folder / "report.json", tmp_path / "run"):
        assert run_id(history.find(str(given))) == "of the file"


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("20270101", "no such results folder, and no such run"),
        ("2026", "is the beginning of several runs: 20260101-000002-abcd"),
        ("20", "too short"),
        ("%%%%%%", "no such run"),
    ],
)
def test_a_run_that_cannot_be_found_or_told(which: str, told: str) -> None:
    keep(1)
    keep(2)
    with pytest.raises(UsageError, match=told):
        history.find(which)


@pytest.mark.parametrize("content", ["[", "[]", "{}"])
def test_a_file_that_is_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UsageError, match=r"report\.json: (cannot be read|is no report)"):
        history.find(str(tmp_path))


# -- the file


def _keep_ten(first: int) -> None:
    for number in range(first, first + 10):
        keep(number)


def test_many_processes_write_at_once_also_into_a_file_that_is_not_there_yet() -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_keep_ten, args=(10 * number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 6
    assert len(history.runs(limit=100)) == 60


@pytest.mark.parametrize("damage", ["noise", "torn", "body"])
def test_a_broken_file_is_put_aside_and_a_new_one_begun(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        keep(number)
    path = databases.path()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if damage == "body":
            database.execute("UPDATE runs SET report = x'00'")
    if damage == "noise":
        path.write_bytes(b"no database at all\n" * 1000)
    if damage == "torn":
        raw = path.read_bytes()
        path.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    assert history.last_green("test_it", HERE) is None
    kept = keep(99)
    assert run_id(history.last_green("test_it", HERE)) == kept
    told = capsys.readouterr().err
    assert told.count("is broken") == 1
    assert len(list(path.parent.glob("history.sqlite.broken-*Z"))) == 1


def test_a_file_that_another_program_has_locked_costs_nothing_but_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(1)
    monkeypatch.setattr(databases, "_WAIT_SECONDS", 0.05)
    with closing(sqlite3.connect(databases.path(), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        keep(2)
        other.execute("ROLLBACK")
    assert "database is locked; this run goes on without it" in capsys.readouterr().err
    assert len(history.runs()) == 1


def test_a_file_of_a_newer_program_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    keep(1)
    with closing(sqlite3.connect(databases.path())) as database:
        database.execute("PRAGMA user_version = 99")
    keep(2)
    assert history.runs() == []
    assert "is of version 99, and this program knows 1" in capsys.readouterr().err
    with closing(sqlite3.connect(databases.path())) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_an_older_file_is_brought_up_to_date_with_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep(1)
    added = "ALTER TABLE runs ADD COLUMN note TEXT"
    monkeypatch.setattr(databases, "_MIGRATIONS", (*databases._MIGRATIONS, added))
    assert run_id(history.last_green("test_it", HERE)) == kept
    with closing(sqlite3.connect(databases.path())) as database:
        assert database.execute("SELECT run_id, note FROM runs").fetchall() == [(kept, None)]
        assert database.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_cache_that_cannot_be_written_costs_nothing_but_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DISAGG_E2E_HISTORY", str(tmp_path / "file" / "history.sqlite"))
    keep(1)
    assert "this run goes on without it" in capsys.readouterr().err


def test_what_kept_durations_before_goes_with_the_first_run() -> None:
    old = databases.path().with_name("durations.json")
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    keep(1)
    assert not old.exists()
