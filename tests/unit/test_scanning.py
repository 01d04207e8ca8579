"""Logs are searched whatever is in them, and what is found has the right line, time and number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pyharness.classification import clock, rules, scanning
from pyharness.classification.matching import Matcher

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

RULES = rules.load()
MATCHER = Matcher(RULES.of("services"), RULES.harmless)
FULL = b"OSError: [Errno 28] No space left on device"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


def scan(path: Path, **window: float | None) -> list[scanning.Finding]:
    return scanning.scan(path, MATCHER, scanning.Window(year=2026, **window))


def found(path: Path, content: bytes, **window: float | None) -> list[tuple[str, int, int]]:
    log = path / "it.log"
    log.write_bytes(content)
    return [(entry.rule.id, entry.count, entry.hits[0].line) for entry in scan(log, **window)]


@pytest.mark.parametrize(
    "content",
    [
        b"one\ntwo\n" + FULL + b"\n",
        b"one\ntwo\n" + FULL,
        b"one\r\ntwo\r\n" + FULL + b"\r\n",
        b"one\n\n\x1b[2m\x1b[31m" + FULL + b"\x1b[0m\n",
        b"\x00\xff\xfe\n\x80\n" + FULL + b"\x00\xff\n",
        b"x" * 300_000 + b"\n" + b"\x00" * 2_000_000 + b"\n" + FULL + b"\n",
        b"\n\n" + b"y" * 3_000_000 + FULL + b"z" * 100_000 + b"\n",
    ],
    ids=["plain", "no_end", "crlf", "colours", "binary", "after_huge_lines", "in_a_huge_line"],
)
def test_a_line_is_found_where_it_stands(content: bytes, tmp_path: Path) -> None:
    assert found(tmp_path, content) == [("infra.disk_full", 1, 3)]


def test_what_is_shown_has_no_colours_and_no_control_characters(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes(b"\x1b[31mNo space left\x1b[0m\n\x07\x1b[1;31m" + FULL + b"\x1b[0m\x00\r\n")
    assert scan(log)[0].hits[0].text == FULL.decode()


def test_a_block_that_ends_in_a_line_does_not_hide_it(tmp_path: Path) -> None:
    block = 1024 * 1024
    for before in range(block - 60, block + 3, 7):
        assert found(tmp_path, b"-" * (before - 1) + b"\n" + FULL + b"\n") == [("infra.disk_full", 1, 2)]


def test_many_are_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes((FULL + b"\n") * 5000 + b"Bus error\n")
    many, one = scan(log)
    assert (many.count, len(many.hits), many.hits[-1].line) == (5000, scanning.KEPT, scanning.KEPT)
    assert (one.rule.id, one.hits[0].line) == ("infra.shared_memory", 5001)


def test_what_is_not_there_or_cannot_be_read_has_nothing(tmp_path: Path) -> None:
    assert scan(tmp_path / "none.log") == []
    assert scan(tmp_path) == []
    (tmp_path / "empty.log").touch()
    assert scan(tmp_path / "empty.log") == []


TRACEBACK = b"""\
[2026-11-21 12:00:05 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "a.py", line 1, in run
    raise OSError("No space left on device")
ValueError: bad

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in run
    run()
RuntimeError: worse
[2026-11-21 12:00:06] gone
"""


def test_a_traceback_is_one_thing_and_its_last_exception_shows_it(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes(TRACEBACK)
    (finding,) = scan(log, started_at=NOON)
    hit = finding.hits[0]
    assert (finding.rule.id, finding.count, hit.line, hit.text) == (
        "product.python_traceback", 1, 11, "RuntimeError: worse"
    )  # fmt: skip
    assert hit.at == NOON + 5


def test_an_exception_that_a_rule_knows_stands_for_its_traceback(tmp_path: Path) -> None:
    assert found(tmp_path, TRACEBACK.replace(b"RuntimeError: worse", FULL)) == [("infra.disk_full", 1, 11)]


def test_a_traceback_whose_lines_all_have_a_head_is_read(tmp_path: Path) -> None:
    head = b"(EngineCore pid=7) ERROR 11-21 12:18:30 [core.py:1512] "
    lines = [b"Traceback (most recent call last):", b'  File "a.py", line 1', b"    f()", b"KeyError: 'x'"]
    assert found(tmp_path, b"".join(head + line + b"\n" for line in lines)) == [("product.python_traceback", 1, 4)]


def test_a_traceback_over_two_blocks_is_read(tmp_path: Path) -> None:
    for before in range(1024 * 1024 - 300, 1024 * 1024 - 20, 40):
        (entry,) = found(tmp_path, b"-" * before + b"\n" + TRACEBACK)
        assert entry == ("product.python_traceback", 1, 12)


def test_a_traceback_without_end_is_told_by_its_beginning(tmp_path: Path) -> None:
    assert found(tmp_path, b"Traceback (most recent call last):\n  File") == [("product.python_traceback", 1, 1)]
    long = b"Traceback (most recent call last):\n" + b'  File "a.py"\n' * 5000
    assert found(tmp_path, long) == [("product.python_traceback", 1, 1)]


def test_what_comes_after_the_end_does_not_count(tmp_path: Path) -> None:
    content = (
        b"[2026-11-21 12:00:01] up\n[2026-11-21 12:00:09] Bus error\n" + FULL + b"\n[2026-11-21 12:00:30] Bus error\n"
    )
    assert found(tmp_path, content, started_at=NOON, until=NOON + 10) == [
        ("infra.shared_memory", 1, 2),
        ("infra.disk_full", 1, 3),
    ]
    assert found(tmp_path, content, started_at=NOON, until=NOON + 5) == []


def test_what_comes_after_a_service_was_told_to_end_does_not_count(tmp_path: Path) -> None:
    assert found(tmp_path, b"Bus error\nending: SIGTERM\n" + FULL + b"\n") == [("infra.shared_memory", 1, 1)]


def test_what_was_before_the_run_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text("[Sat Nov 21 11:00:00 2026] python3[1]: segfault at 0\n[Sat Nov 21 12:00:02 2026] segfault at 1\n")
    found = scan_kernel(log, since=NOON)
    assert [(entry.rule.id, entry.count, entry.hits[0].line) for entry in found] == [("product.segfault", 1, 2)]


def scan_kernel(log: Path, **window: float) -> list[scanning.Finding]:
    offset = datetime.now().astimezone().utcoffset()
    shift = offset.total_seconds() if offset else 0.0
    moved = {key: value - shift for key, value in window.items()}
    matcher = Matcher(RULES.of("kernel"), ())
    return scanning.scan(log, matcher, scanning.Window(year=2026, **moved))


@pytest.mark.parametrize(
    "line",
    [
        "[2026-11-21 12:00:00] Load weight begin",
        "[2026-11-21 12:00:00 TP0 EP0] Prefill batch",
        "[2026-11-21 12:00:00,000] simulator",
        "2026-11-21 12:00:00  INFO smg::server",
        "2026-11-21T12:00:00.000Z up",
        "(APIServer pid=24076) WARNING 11-21 12:00:00 [system_utils.py:255] Found",
        "E1121 12:00:00.000000 16381 transfer_metadata.cpp:1098] Local",
        "[W1121 12:00:00.000000000 utils.cpp:68] Warning",
        "[Sat Nov 21 12:00:00 2026] NVRM: Xid",
    ],
)
def test_the_time_of_a_line_is_read(line: str) -> None:
    assert clock.naive(line, 2026) == NOON


@pytest.mark.parametrize("line", ["", "no time", "2026-13-41 25:61:61 x", "E9999 99:99:99.1 x"])
def test_a_line_without_a_time_has_none(line: str) -> None:
    assert clock.naive(line, 2026) is None


@pytest.mark.parametrize("hours", [-11.0, -3.5, 0.0, 5.75, 8.0, 13.0])
def test_the_zone_of_a_log_follows_from_when_its_service_was_started(hours: float) -> None:
    assert clock.zone(NOON + hours * 3600 + 40, NOON) == hours * 3600
