"""The journal of a run: written before what it tells of, and readable after a kill."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyharness import journal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    subject = journal.Journal(tmp_path / "j")
    subject.note("run", run="r1")
    subject.note("phase", name="provision", trial="größe \ud800", status="begun")
    events = journal.read(tmp_path / "j")
    assert [event["event"] for event in events] == ["run", "phase"]
    assert events[0]["run"] == "r1"
    assert events[1]["trial"].startswith("größe ")
    assert events[0]["at"] <= events[1]["at"]


def test_each_line_is_on_the_disk_before_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: synced.append((tmp_path / "j").read_text()))
    journal.Journal(tmp_path / "j").note("run", run="r1")
    assert len(synced) == 1
    assert '"run": "r1"' in synced[0]


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    one, two = journal.Journal(tmp_path / "j"), journal.Journal(tmp_path / "j")
    for number in range(20):
        (one, two)[number % 2].note("phase", name=str(number))
    assert [event["name"] for event in journal.read(tmp_path / "j")] == [str(number) for number in range(20)]


@pytest.mark.parametrize("rubbish", ['{"at": 1, "event": "pha', "[1]\n", "\x00\x00\n", '{"event": 7}\n', "7\n"])
def test_half_a_line_is_left_out(tmp_path: Path, rubbish: str) -> None:
    journal.Journal(tmp_path / "j").note("run", run="r1")
    with (tmp_path / "j").open("a") as stream:
        stream.write(rubbish)
    assert [event["event"] for event in journal.read(tmp_path / "j")] == ["run"]


def test_who_goes_on_begins_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"at": 1, "event": "run"}\n{"at": 2, "ev')
    journal.Journal(tmp_path / "j").note("run", resumed=True)
    assert [event.get("resumed") for event in journal.read(tmp_path / "j")] == [None, True]


def test_no_journal_has_no_events(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == []


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        journal.Journal(tmp_path / "none" / "j").note("run")
