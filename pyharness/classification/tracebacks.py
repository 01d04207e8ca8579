"""Python's tracebacks in a log: where one ends, what it says, and whether it is one of several that belong together."""

from __future__ import annotations

import re
from typing import Literal

BEGINS = "Traceback (most recent call last)"
# Lines. A traceback that is longer, or that other processes write into all the time, is given up.
_LONGEST = 600
# Lines between the last exception and what shows that no other follows.
_PATIENCE = 3
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*: .*$|^(?:\w+\.)*[A-Z]\w*:?$")
_CHAIN = ("During handling of the above exception", "The above exception was the direct cause")


class Traceback:
    """One traceback, or a chain of them, read line by line.

    Args:
        first: number of the line that begins it.
        header: the line before it, which mostly says what went wrong.
        opening: the line that begins it. What stands there before the word may stand before the other lines too.
        at: when it was written, in seconds since the epoch; None where that is not known.

    Attributes:
        exceptions: number and text of each line that names an exception, the outermost last.
        last: number of the last line that belongs to it.
        over: whether it has ended.
    """

    def __init__(self, first: int, header: str, opening: str, at: float | None) -> None:
        self.first, self.header, self.opening, self.at = first, header, opening, at
        self.exceptions: list[tuple[int, str]] = []
        self.last, self.over = first, False
        self._prefix = opening.partition(BEGINS)[0]
        self._state: Literal["frames", "exception", "chain"] = "frames"
        self._waited = 0

    @property
    def told(self) -> list[str]:
        """The lines that say what it is about."""
        return [self.header, self.opening, *(text for _number, text in self.exceptions)]

    def take(self, number: int, text: str) -> None:
        """Read the next line, unless it is over."""
        line = text.removeprefix(self._prefix) if self._prefix else text
        belongs = True
        if number - self.first > _LONGEST:
            self.over = True
        elif line.startswith(_CHAIN):
            self._state = "chain"
        elif BEGINS in line:
            self.over = self._state != "chain"
            self._state = "frames"
        elif self._state == "frames" and _EXCEPTION.match(line):
            self.exceptions.append((number, text))
            self._state, self._waited = "exception", 0
        elif self._state == "exception":
            self._waited += 1
            self.over = self._waited > _PATIENCE
            belongs = False
        if belongs and not self.over:
            self.last = number
