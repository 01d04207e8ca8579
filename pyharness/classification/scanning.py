"""Search a log for the lines that rules know.

A log may be any size: it is read in blocks, first for the rules' literal texts all at once, and only a line that holds
one is looked at more closely. What is kept of a rule is its first lines and their number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from pyharness.classification import clock
from pyharness.classification.matching import TOLD_TO_END, Matcher, clean, plain
from pyharness.classification.rules import Rule
from pyharness.classification.tracebacks import BEGINS, Traceback

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 1024 * 1024
# A line that is longer is looked at in pieces.
_LONGEST_LINE = 64 * 1024
# Characters on either side of what was found that are looked at and kept.
_AROUND = 1000
# Lines kept of a rule in a log.
KEPT = 20
# Of so many lines of a rule in a log the number is known well enough: of those after them not each is dated.
_MANY = 1000
_SKIMMED = 100
# Lines above an undated one among which a date is looked for.
_LOOK_BACK = 60


@dataclass(frozen=True)
class Hit:
    """A line that a rule knows. `line` counts from 1, `at` is in seconds since the epoch."""

    line: int
    text: str
    at: float | None


@dataclass
class Finding:
    """All lines of a log that one rule knows: how many, and the first of them."""

    rule: Rule
    count: int = 0
    hits: list[Hit] = field(default_factory=list)


@dataclass(frozen=True)
class Window:
    """Which lines of a log count.

    Attributes:
        started_at: when the service was started, in seconds since the epoch; None where that is not known.
        since: before that nothing counts, and neither does what has no date. None: all counts.
        until: from when on nothing counts: then it is being taken down. None: all counts.
        year: of the run.
    """

    started_at: float | None = None
    since: float | None = None
    until: float | None = None
    year: int = 1970


def scan(path: Path, matcher: Matcher, window: Window) -> list[Finding]:
    """Search a log.

    Args:
        path: the log. One that cannot be read has nothing.
        matcher: what for.
        window: which of its lines count.

    Returns:
        what was found, by rule, in the order of the first lines.
    """
    try:
        with path.open("rb") as stream:
            return _Scan(matcher, window, _zone(stream, window)).read(stream)
    except OSError:
        return []


def _zone(stream: BinaryIO, window: Window) -> float:
    head = stream.read(_LONGEST_LINE)
    stream.seek(0)
    times = (clock.naive(clean(line), window.year) for line in head.split(b"\n"))
    return clock.zone(next((time for time in times if time is not None), None), window.started_at)


class _Scan:
    """The way through one log."""

    def __init__(self, matcher: Matcher, window: Window, zone: float) -> None:
        self._matcher, self._window, self._zone = matcher, window, zone
        self._findings: dict[str, Finding] = {}
        self._open: Traceback | None = None
        # Hits in a traceback that may turn out to be harmless.
        self._held: list[tuple[Rule, Hit]] = []
        self._tracebacks: list[Traceback] = []
        self._last_at: float | None = None
        self._last_line = ""
        self._ended = False
        # Hits of which only the number counts, since a line was last looked at closely.
        self._skimmed = 0

    def read(self, stream: BinaryIO) -> list[Finding]:
        number = 1
        while block := stream.read(_BLOCK):
            if not block.endswith(b"\n"):
                block += stream.readline(_LONGEST_LINE)
            self._block(block, number)
            number += block.count(b"\n")
            if self._ended:
                break
        if self._open:
            self._open.over = True
        self._settle()
        return sorted(self._findings.values(), key=lambda finding: finding.hits[0].line)

    def _block(self, block: bytes, first: int) -> None:
        self._feed(block, 0, first)
        number, counted, beyond = first, 0, -1
        for place, word in self._matcher.places(block):
            if place < beyond:
                continue
            start = block.rfind(b"\n", 0, place) + 1
            stop = block.find(b"\n", place)
            stop = len(block) if stop < 0 else stop
            beyond = min(stop, place + _AROUND)
            number += block.count(b"\n", counted, start)
            counted = start
            raw = block[max(start, place - _AROUND) : beyond]
            if self._skim(word, raw):
                continue
            self._line(block, start, number, raw)
            if self._ended:
                break
        self._settle()
        tail = block.rstrip(b"\n")
        self._last_at = self._time(block, len(tail))
        self._last_line = clean(tail[tail.rfind(b"\n") + 1 :][:_AROUND])

    def _skim(self, word: bytes, raw: bytes) -> bool:
        """Only count a line of a rule of which there are many already; but now and then look at its time too."""
        if self._open or self._held or self._skimmed >= _SKIMMED:
            self._skimmed = 0
            return False
        known = self._matcher.sole(word, raw)
        finding = self._findings.get(known.id) if known and known is not self._matcher.general else None
        if known is None or finding is None or finding.count < _MANY or not known.matches(plain(raw)):
            return False
        finding.count += 1
        self._skimmed += 1
        return True

    def _line(self, block: bytes, start: int, number: int, raw: bytes) -> None:
        text = clean(raw)
        own = clock.naive(text, self._window.year)
        at = self._time(block, start) if own is None else own - self._zone
        if (at is not None and self._window.until is not None and at > self._window.until) or any(
            word in text for word in TOLD_TO_END
        ):
            self._ended = True
            return
        if self._window.since is not None and (at is None or at < self._window.since):
            return
        if BEGINS in text and not (self._open and not self._open.over) and not self._inside(number):
            header = block[:start].rstrip(b"\n").rpartition(b"\n")[2][:_AROUND] if start else b""
            self._open = Traceback(number, clean(header) if start else self._last_line, text, at)
            self._tracebacks.append(self._open)
            stop = block.find(b"\n", start)
            if stop >= 0:
                self._feed(block, stop + 1, number + 1)
        known = self._matcher.match(raw, text)
        if isinstance(known, Rule) and known is not self._matcher.general:
            self._held.append((known, Hit(number, text, at)))
            if not self._tracebacks:
                self._settle()

    def _inside(self, number: int) -> bool:
        return any(entry.first <= number <= entry.last for entry in self._tracebacks)

    def _feed(self, block: bytes, start: int, number: int) -> None:
        """Give an open traceback its lines."""
        while self._open and not self._open.over and start < len(block):
            stop = block.find(b"\n", start)
            stop = len(block) if stop < 0 else stop
            self._open.take(number, clean(block[start : min(stop, start + _AROUND)]))
            start, number = stop + 1, number + 1

    def _settle(self) -> None:
        """Decide about hits and tracebacks that are complete."""
        if self._open and not self._open.over:
            return
        for traceback in self._tracebacks:
            self._judge(traceback)
        for rule, hit in self._held:
            finding = self._findings.setdefault(rule.id, Finding(rule))
            finding.count += 1
            if len(finding.hits) < KEPT:
                finding.hits.append(hit)
        self._held, self._tracebacks, self._open = [], [], None

    def _judge(self, traceback: Traceback) -> None:
        """Leave of a traceback what rules know of it, or else its last exception; nothing of one that is harmless."""
        named = {number for number, _text in traceback.exceptions}
        known = {hit.line for _rule, hit in self._held} & named
        inside = range(traceback.first, traceback.last + 1)
        if any(text.matches(line) for text in self._matcher.harmless for line in traceback.told):
            known = set()
        elif not known and self._matcher.general:
            number, text = traceback.exceptions[-1] if named else (traceback.first, traceback.opening)
            self._held.append((self._matcher.general, Hit(number, text, traceback.at)))
            known = {number}
        # The other lines of a traceback are source code.
        self._held = [entry for entry in self._held if entry[1].line not in inside or entry[1].line in known]

    def _time(self, block: bytes, start: int) -> float | None:
        """Return when the line was written that begins at a place, or the nearest dated one above it."""
        for _back in range(_LOOK_BACK):
            stop = block.find(b"\n", start)
            line = block[start : start + 200 if stop < 0 else min(stop, start + 200)]
            at = clock.naive(clean(line), self._window.year)
            if at is not None:
                return at - self._zone
            if start <= 0:
                break
            start = block.rfind(b"\n", 0, start - 1) + 1
        return self._last_at
