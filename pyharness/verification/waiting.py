"""Waiting for what comes in its own time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS = 0.1
_T = TypeVar("_T")


def until(condition: Callable[[], _T], seconds: float) -> tuple[_T, float]:
    """Wait until a condition gives something that is true, `seconds` at most.

    Returns:
        what it gave last, for the caller to judge and to tell, and the seconds that it took.
    """
    started = time.monotonic()
    while True:
        found, spent = condition(), time.monotonic() - started
        if found or spent > seconds:
            return found, round(spent, 3)
        time.sleep(_POLL_SECONDS)
