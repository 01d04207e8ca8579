"""Signals that ask a run to stop: noted at once, acted on where it is safe, never in the middle of cleaning up."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 (what happened, not a defect)
    """The run was asked to stop."""


class Interrupt:
    """Whether a run has been asked to stop.

    Attributes:
        signal_name: the first signal that came, such as "SIGINT"; None as long as there was none.
        reason: why the run has to stop without a signal; None as long as it has not.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self.reason: str | None = None

    def is_set(self) -> bool:
        """Tell whether the run has to stop."""
        return self.signal_name is not None or self.reason is not None

    def check(self) -> None:
        """Stop here if the run has to.

        Raises:
            Interrupted: it has to.
        """
        if self.is_set():
            raise Interrupted(self.signal_name or self.reason)

    def stop(self, reason: str) -> None:
        """Have the run stop where it is safe, as a signal does. Any thread may call it.

        Args:
            reason: why, in a sentence.
        """
        self.reason = self.reason or reason

    def _note(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        told = "stopping" if self.signal_name is None else "still taking the run down"
        self.signal_name = self.signal_name or name
        sys.stderr.write(f"\n{name}: {told}; nothing of the run will be left\n")

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Note signals within this block; put the handlers of before back afterwards.

        Only the main thread can have handlers: in another one it is for the program to end the run, by `stop`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
