"""Services that stand still: there for everybody who looks, and doing nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import exercise
from pyharness.faults import on_node
from pyharness.faults.contract import FaultFailed
from pyharness.faults.service_fault import DOOR_SECONDS, ServiceFault

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial


class Stall(ServiceFault):
    """SIGSTOP of all of a service's processes, or its container paused: it is there, and does nothing.

    Taken back by SIGCONT.
    """

    name = "stall"
    done = "stalled"
    outlives = True

    def inject(self, trial: Trial) -> Evidence:
        """Stop its processes, the first one first."""
        done = on_node.do(trial, self.service, on_node.STOP, seconds=2.0)
        self.pids = done["pids"] or self.pids
        return {"pids": done["pids"]}

    def effect(self, trial: Trial) -> Evidence:
        """Prove that all of its processes are stopped, and that it does not answer."""
        seen = on_node.do(trial, self.service, on_node.LOOK)
        if self.service.container:
            moving = {} if seen["container"] == "paused" else {self.service.container["name"]: seen["container"]}
        else:
            moving = {pid: state for pid, state in seen["states"].items() if state not in "TZX"}
        if moving or not seen["ours"]:
            raise FaultFailed(f"{self} did not take effect: it is not stopped ({moving or 'it has ended'})", seen)
        answer = exercise.get(self.service.ready_url, DOOR_SECONDS)
        if answer.status is not None:
            raise FaultFailed(
                f"{self} did not take effect: HTTP {answer.status} comes from {self.service.ready_url} all the same",
                seen,
            )
        return {"states": seen["states"], "container": seen["container"], "answers": answer.problem}

    def revert(self, trial: Trial) -> Evidence:
        """Let its processes go on."""
        return on_node.do(trial, self.service, on_node.CONTINUE, pids=self.pids, seconds=2.0)

    def gone(self, trial: Trial) -> Evidence:
        """Prove that none of them is stopped any more."""
        seen = on_node.do(trial, self.service, on_node.LOOK)
        stopped = [pid for pid, state in seen["states"].items() if state == "T"]
        if stopped or seen["container"] == "paused":
            raise FaultFailed(f"{self} is not gone: {stopped or self.service.container} stopped still", seen)
        if not seen["ours"]:
            raise self.ended_again(trial, self.service)
        return {"states": seen["states"], "container": seen["container"]}
