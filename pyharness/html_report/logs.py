"""The logs of a run for its page: all that are short, of the long ones both ends and the lines that failures name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyharness.results import LogLine

FILE_BYTES = 256 * 1024  # of one file on the page
TOTAL_BYTES = 20 * 1024 * 1024  # of all: what a browser on a phone still opens
_CHUNK = 1 << 20
_AROUND = 20  # lines before and after one that a failure names
_AROUND_BYTES = 32 * 1024
_PACKED = {".gz", ".zst", ".xz", ".bz2", ".zip", ".whl"}

# Control sequences of terminals: ECMA-48 5.4 (CSI), 5.6 (OSC and its like, ended by BEL or ST), and the short ones.
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")
# What a browser would hide or obey: C0 but tab and newline, DEL, C1, and what turns the direction of text around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_PICTURES = 0x2400  # Unicode's pictures of the control characters begin here


@dataclass(frozen=True)
class Piece:
    """Lines of a file that follow one another.

    Attributes:
        first: number of the first line, from 1.
        left_out: bytes of the file between the piece before and this one.
        marks: numbers of the lines that failures name, with the marks' ids.
    """

    content: bytes
    first: int
    left_out: int
    marks: dict[int, str]

    @property
    def html(self) -> Markup:
        """The lines as markup: escaped, and marked where a failure names them."""
        text = plain(self.content)
        if not self.marks:
            return escape(text)
        lines = text.split("\n")
        parts = []
        for number, line in enumerate(lines, self.first):
            mark = self.marks.get(number)
            parts.append(Markup('<mark id="{}">{}</mark>').format(mark, line) if mark else escape(line))
        return Markup("\n").join(parts)

    @property
    def numbers(self) -> str:
        """The lines' numbers, each on a line of its own."""
        count = self.content.count(b"\n") + (not self.content.endswith(b"\n"))
        return "\n".join(map(str, range(self.first, self.first + count)))


@dataclass
class Log:
    """One file.

    Attributes:
        name: its path below the logs folder.
        link: the same for a browser, relative to the page.
        anchor: its id on the page.
        size: bytes.
        lines: how many, or None where it is not shown.
        left_out: bytes at its end that are not shown.
    """

    name: str
    link: str
    anchor: str
    size: int
    lines: int | None = None
    left_out: int = 0
    pieces: list[Piece] = field(default_factory=list)

    @property
    def hidden(self) -> int:
        """How many bytes are not on the page."""
        return self.left_out + sum(piece.left_out for piece in self.pieces)

    @property
    def marked(self) -> bool:
        """Whether a failure names a line of it."""
        return any(piece.marks for piece in self.pieces)


def plain(content: bytes) -> str:
    """Return bytes of a log as text for a browser: no colours, and control characters as pictures."""
    return readable(content.decode("utf-8", "replace").replace("\r\n", "\n"))


def readable(text: str) -> str:
    """Return text without colours, and with its control characters as pictures."""
    return _CONTROL.sub(_picture, _ANSI.sub("", text) if "\x1b" in text else text)


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def mark(line: LogLine) -> str | None:
    """Return the id of a line that a failure names; None where it names only the file."""
    return f"{anchor(line.file)}-{line.line}" if line.line else None


def anchor(file: str) -> str:
    """Return the id of a file on the page, from its path relative to the results folder."""
    return "log-" + quote(file.removeprefix("logs/"), safe="").replace("%", ".")


def collect(folder: Path, named: Sequence[LogLine]) -> list[Log]:
    """Return the logs of a run, by name, with what of each goes on the page.

    Args:
        folder: the results of a test case.
        named: the lines that failures name. They are shown whatever the size of their files.
    """
    root = folder / "logs"
    files = [Path(place, name) for place, _folders, names in os.walk(root) for name in names]
    files = sorted(file for file in files if file.is_file() and not file.is_symlink() and not file.name.startswith("."))
    sizes = {file: file.stat().st_size for file in files}
    cap = _fair_share([min(size, FILE_BYTES) for size in sizes.values()])
    found = []
    for file, size in sizes.items():
        name = file.relative_to(root).as_posix()
        log = Log(name, f"logs/{quote(name)}", anchor(name), size)
        if file.suffix in _PACKED:
            log.left_out = size
        else:
            wanted = sorted({line.line for line in named if line.file == f"logs/{name}" and line.line})
            _read(file, log, cap, wanted)
        found.append(log)
    return found


def _fair_share(sizes: list[int]) -> int:
    """Return what each file may have so that all together keep to the limit: the short ones leave theirs to others."""
    left, waiting = TOTAL_BYTES, len(sizes)
    for size in sorted(sizes):
        if size * waiting > left:
            return left // waiting
        left, waiting = left - size, waiting - 1
    return FILE_BYTES


def _read(file: Path, log: Log, cap: int, wanted: Sequence[int]) -> None:
    """Take what goes on the page out of a file."""
    with file.open("rb") as stream:
        ranges = [(0, log.size)] if log.size <= cap else _ends(stream, log.size, cap)
        around = [line + step for line in wanted for step in (-_AROUND, 0, 1, _AROUND + 1)]
        offsets, log.lines = _count(stream, {max(1, line) for line in around})
        ranges += [_around(line, offsets, log.size) for line in wanted if line in offsets]
        starts = _merge(ranges)
        firsts = _lines_at(stream, [start for start, _end in starts])
        reached = 0
        for (start, end), first in zip(starts, firsts, strict=True):
            stream.seek(start)
            content = stream.read(end - start)
            last = first + content.count(b"\n")
            marks = {line: f"{log.anchor}-{line}" for line in wanted if first <= line <= last}
            log.pieces.append(Piece(content, first, start - reached, marks))
            reached = end
        log.left_out = max(0, log.size - reached)


def _ends(stream: BinaryIO, size: int, cap: int) -> list[tuple[int, int]]:
    """Return the beginning and the end of a file, cut at lines where there are any."""
    half = cap // 2
    head = stream.read(half)
    stream.seek(size - half)
    tail = stream.read(half)
    start = tail.find(b"\n") + 1
    return [(0, head.rfind(b"\n") + 1 or len(head)), (size - half + start, size)]


def _around(line: int, offsets: dict[int, int], size: int) -> tuple[int, int]:
    """Return the lines around one, or less where they are very long."""
    at, end = offsets[line], offsets.get(line + 1, size)
    first, last = offsets.get(max(1, line - _AROUND), at), offsets.get(line + _AROUND + 1, size)
    if last - first <= _AROUND_BYTES:
        return first, last
    return at, min(end, at + _AROUND_BYTES)


def _merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _count(stream: BinaryIO, wanted: set[int]) -> tuple[dict[int, int], int]:
    """Return where wanted lines begin, and how many lines there are."""
    offsets, before, last = {1: 0}, 0, b"\n"
    for at, chunk in _chunks(stream):
        within = chunk.count(b"\n")
        position = -1
        reached = before
        for line in sorted(line for line in wanted if before + 1 < line <= before + within + 1):
            while reached < line - 1:
                position, reached = chunk.index(b"\n", position + 1), reached + 1
            offsets[line] = at + position + 1
        before, last = before + within, chunk[-1:]
    return offsets, before + (last != b"\n")


def _lines_at(stream: BinaryIO, offsets: list[int]) -> list[int]:
    """Return the number of the line that each offset lies in; the offsets ascend."""
    numbers: list[int] = []
    before = 0
    for at, chunk in _chunks(stream):
        while len(numbers) < len(offsets) and offsets[len(numbers)] < at + len(chunk):
            numbers.append(before + chunk.count(b"\n", 0, offsets[len(numbers)] - at) + 1)
        before += chunk.count(b"\n")
    return numbers + [before + 1] * (len(offsets) - len(numbers))


def _chunks(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    stream.seek(0)
    at = 0
    while chunk := stream.read(_CHUNK):
        yield at, chunk
        at += len(chunk)
