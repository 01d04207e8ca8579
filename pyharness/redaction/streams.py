"""Standard output and standard error without secrets, whoever writes to them."""

from __future__ import annotations

import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType


class CleanStream:
    """A text stream whose text is looked through before it goes out, in whole lines, so that none cuts a secret.

    Args:
        stream: where it goes.
        redact: takes the secrets out of a text.
    """

    def __init__(self, stream: TextIO, redact: Callable[[str], str]) -> None:
        self._stream, self._redact = stream, redact
        self._held = ""
        # A signal's handler may write in the middle of a write.
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Write a text; what has no line break yet is held until there is one, or until `flush`."""
        with self._lock:
            lines, line_break, self._held = (self._held + text).rpartition("\n")
            if line_break:
                self._stream.write(self._redact(lines + line_break))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write what is held."""
        with self._lock:
            held, self._held = self._held, ""
            if held:
                self._stream.write(self._redact(held))
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded(redact: Callable[[str], str]) -> Iterator[None]:
    """Have everything that is written to standard output and standard error looked through, tracebacks too.

    Args:
        redact: takes the secrets out of a text.
    """

    def unforeseen(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))

    before = sys.stdout, sys.stderr
    clean = CleanStream(sys.stdout, redact), CleanStream(sys.stderr, redact)
    sys.stdout, sys.stderr = clean
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = unforeseen  # stays: an error that nobody catches is told after this block has ended
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in clean:
            stream.flush()
