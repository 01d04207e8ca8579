"""What goes into report.html: of each log both ends and the lines that matter, and what happened as a drawing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pyharness.html_report import logs, timeline
from pyharness.results import LogLine
from tests.unit import report_sample as sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# -- the logs


def collected(tmp_path: Path, content: bytes, *wanted: int) -> logs.Log:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.log").write_bytes(content)
    named = [LogLine(file="logs/a.log", line=line, text="") for line in wanted]
    (log,) = logs.collect(tmp_path, named)
    return log


def shown(log: logs.Log) -> list[tuple[int, str]]:
    """Return what of a log is on the page, each line with the number beside it."""
    lines = []
    for piece in log.pieces:
        text = re.sub(r"</?mark[^>]*>", "", str(piece.html))
        numbers = [int(number) for number in piece.numbers.split("\n")]
        lines += list(zip(numbers, text.removesuffix("\n").split("\n"), strict=True))
    return lines


def test_a_short_log_is_shown_whole(tmp_path: Path) -> None:
    log = collected(tmp_path, b"one\ntwo\r\nthree")
    assert shown(log) == [(1, "one"), (2, "two"), (3, "three")]
    assert (log.lines, log.hidden) == (3, 0)


def test_a_long_log_is_cut_from_its_middle_and_its_lines_keep_their_numbers(tmp_path: Path) -> None:
    lines = [f"line {number} {'x' * 90}" for number in range(1, 10_001)]
    content = "\n".join(lines).encode() + b"\n"
    log = collected(tmp_path, content, 5000, 9999)
    assert [number for number, _text in shown(log)][:2] == [1, 2]
    assert all(text == lines[number - 1] for number, text in shown(log))
    assert [number for piece in log.pieces for number in piece.marks] == [5000, 9999]
    assert {4980, 5000, 5020, 10_000} <= {number for number, _text in shown(log)}
    assert log.hidden == len(content) - sum(len(piece.content) for piece in log.pieces)
    assert sum(len(piece.content) for piece in log.pieces) <= logs.FILE_BYTES + 64 * 1024
    assert log.lines == 10_000


def test_a_log_of_one_endless_line_is_cut_too(tmp_path: Path) -> None:
    log = collected(tmp_path, b"x" * 1_000_000, 1)
    assert sum(len(piece.content) for piece in log.pieces) <= logs.FILE_BYTES + 64 * 1024
    assert log.hidden > 600_000


def test_a_line_that_does_not_exist_is_no_error(tmp_path: Path) -> None:
    log = collected(tmp_path, b"one\n", 7)
    assert not log.marked


def test_an_unfinished_sequence_of_a_terminal_swallows_no_line(tmp_path: Path) -> None:
    log = collected(tmp_path, b"a\x1b]0;title\nb\x1b[31\nc\n", 3)
    assert [number for number, _text in shown(log)] == [1, 2, 3]
    assert shown(log)[2] == (3, "c")


def test_many_logs_share_what_the_page_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "TOTAL_BYTES", 100_000)
    (tmp_path / "logs").mkdir()
    for number in range(20):
        (tmp_path / f"logs/{number:02d}.log").write_bytes(b"0123456789abcde\n" * (10 if number < 10 else 2000))
    found = logs.collect(tmp_path, [])
    assert [log.hidden for log in found[:10]] == [0] * 10
    total = sum(len(piece.content) for log in found for piece in log.pieces)
    assert 80_000 < total <= 100_000


def test_what_is_packed_or_leads_elsewhere_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "secret").write_text("of somebody else")
    (tmp_path / "logs/link.log").symlink_to(tmp_path / "secret")
    (tmp_path / "logs/old.log.gz").write_bytes(b"\x1f\x8b")
    (log,) = logs.collect(tmp_path, [])
    assert (log.name, log.pieces, log.hidden) == ("old.log.gz", [], 2)


# -- the timeline


@pytest.fixture
def drawn() -> timeline.Timeline:
    return timeline.draw(sample.failed_report())


def test_each_node_has_a_lane_and_below_it_each_of_its_services(drawn: timeline.Timeline) -> None:
    assert [(lane.label, lane.level) for lane in drawn.lanes] == [
        ("phases", 0),
        ("one", 1),
        ("prefill", 2),
        ("router", 2),
        ("two", 1),
        ("decode", 2),
    ]


def test_a_service_starts_is_up_and_stops_and_what_happened_to_it_lies_above(drawn: timeline.Timeline) -> None:
    router = next(lane for lane in drawn.lanes if lane.label == "router")
    assert [bar.kind for bar in router.bars] == ["starting", "up", "request", "request broken"]
    assert [mark.kind for mark in router.marks] == ["start", "ready", "stop"]
    decode = next(lane for lane in drawn.lanes if lane.label == "decode")
    assert [mark.kind for mark in decode.marks] == ["start", "ready", "fault", "stop"]


def test_everything_drawn_lies_within_the_drawing(drawn: timeline.Timeline) -> None:
    for lane in drawn.lanes:
        assert all(timeline.LABELS <= bar.x <= bar.x + bar.width <= timeline.WIDTH for bar in lane.bars)
        assert all(timeline.LABELS <= mark.x <= timeline.WIDTH for mark in lane.marks)


def test_the_table_has_everything_in_its_order(drawn: timeline.Timeline) -> None:
    assert len(drawn.rows) == 5 + 12
    assert [row.seconds for row in drawn.rows] == sorted(row.seconds for row in drawn.rows)


def test_a_service_that_never_became_ready_or_never_stopped() -> None:
    of = {"node": "one", "service": "a"}
    report = sample.failed_report(timeline=[sample.event(5, "start", "", **of)])
    (lane,) = (lane for lane in timeline.draw(report).lanes if lane.label == "a")
    assert [(bar.kind, bar.title) for bar in lane.bars] == [("starting", "never became ready")]
    report = sample.failed_report(timeline=[sample.event(5, "start", "", **of), sample.event(9, "ready", "", **of)])
    (lane,) = (lane for lane in timeline.draw(report).lanes if lane.label == "a")
    assert lane.bars[-1].title == "up to the end"


def test_phases_that_overlap_get_lanes_of_their_own() -> None:
    report = sample.failed_report(phases=[sample.phase("a", 0, 10), sample.phase("b", 4, 10)], timeline=[])
    assert [len(lane.bars) for lane in timeline.draw(report).lanes] == [1, 1]
