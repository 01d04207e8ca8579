"""The fault library: faults that are made to happen, proven to have happened, and taken back (docs/faults.md).

    with faults.injected(trial, faults.Kill(worker), limit_seconds=30, recovered=both_answer) as hold:
        ...  # what has to hold meanwhile; CheckFailed where it does not

Where the effect is not proven, the verdict is error, and never the product's failure.
"""

from pyharness.faults.clients import Cancel
from pyharness.faults.contract import Fault, FaultFailed
from pyharness.faults.ending import Kill, Outage, Terminate
from pyharness.faults.joining import Start
from pyharness.faults.running import Hold, for_good, injected
from pyharness.faults.stalling import Stall

__all__ = [
    "Cancel",
    "Fault",
    "FaultFailed",
    "Hold",
    "Kill",
    "Outage",
    "Stall",
    "Start",
    "Terminate",
    "for_good",
    "injected",
]
