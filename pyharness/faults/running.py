"""How a verification makes a fault: for the length of a block, or for good."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyharness.faults.steps import Hold, Steps
from pyharness.interrupt import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyharness.faults.contract import Fault
    from pyharness.verification.base import Evidence, Trial

__all__ = ["Hold", "for_good", "injected"]


@contextmanager
def injected(
    trial: Trial,
    fault: Fault,
    *,
    limit_seconds: float | None = None,
    recovered: Callable[[], object] | None = None,
) -> Iterator[Hold]:
    """Have a fault while the block runs, and take it back afterwards, also when the block finds a failure.

    Args:
        trial: takes the fault's record.
        fault: what to do. One without a way back is not reverted; what it leads to is waited for all the same.
        limit_seconds: how long recovery may take, from the begin of the revert, or from the injection of what is not
            taken back. None: as long as the fault says.
        recovered: whether all is well again; a `CheckFailed` or `NodeError` of it means not yet. Of what is taken back
            it has to be true beforehand too: otherwise it would prove nothing afterwards.

    Raises:
        FaultFailed: it did not take effect, did not last, or could not be taken back: nothing follows for the product.
        CheckFailed: its target was gone before, or recovery took too long. What the block raises goes first.
        NodeError: a node cannot be asked.
    """
    steps = Steps(trial, fault, limit_seconds, recovered)
    steps.begin()
    held = time.monotonic(), time.time()
    try:
        yield steps.hold
    except Interrupted:
        steps.undo()
        raise
    except Exception as error:
        steps.end_of_hold(*held, error)
        steps.undo()
        raise
    except BaseException:
        steps.undo()
        raise
    steps.end_of_hold(*held)
    steps.end()


def for_good(trial: Trial, fault: Fault) -> Evidence:
    """Make a fault that stays, for checks that follow. Returns the proof of its effect.

    Args:
        trial: takes the fault's record.
        fault: what to do.

    Raises:
        FaultFailed: it did not take effect.
        CheckFailed: its target was gone before.
        NodeError: a node cannot be asked.
    """
    fault.revertible = False
    steps = Steps(trial, fault, None, None)
    steps.begin()
    steps.tell()
    return steps.hold.evidence
