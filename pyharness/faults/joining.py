"""Services that join later: declared with the deployment, and not started by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyharness import exercise
from pyharness.faults import on_node
from pyharness.faults.contract import FaultFailed
from pyharness.faults.service_fault import DOOR_SECONDS, GONE_SECONDS, ServiceFault, start
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_POLL_SECONDS = 0.1


class Start(ServiceFault):
    """A service that was declared and not started: it joins. It is no fault, but has the same steps.

    Args:
        service: which; its `pid` is 0 in deployment.json.
        back: whether it is ended again afterwards.
    """

    name = "start"
    done = "started"

    def __init__(self, service: Service, *, back: bool = False) -> None:
        super().__init__(service)
        self.revertible = back

    def precondition(self, trial: Trial) -> Evidence:
        """Show that it does not run, and that nobody answers in its place."""
        running = trial.nodes.current(self.service)
        answer = exercise.get(self.service.ready_url, DOOR_SECONDS)
        if running is not None or answer.status is not None:
            told = f"it runs as pid {running.pid}" if running else f"HTTP {answer.status} comes from its door"
            raise FaultFailed(f"{self} is not made: {told} already", {"answers": answer.status})
        return {"runs": False, "answers": answer.problem}

    def inject(self, trial: Trial) -> Evidence:
        """Start it."""
        self.successor = start(trial, self.service)
        self.tell(trial, "start", f"{self.service.name} started", self.successor.started_at)
        return {"pid": self.successor.pid}

    def effect(self, trial: Trial) -> Evidence:
        """Prove that it runs and is ready."""
        assert self.successor is not None
        deadline = time.monotonic() + self.service.ready_timeout
        while told := super().lacking(trial):
            if time.monotonic() > deadline:
                raise CheckFailed(
                    f"{self.service.name} was started, and is not ready {self.service.ready_timeout:g} s later: {told}",
                    {"tail": trial.nodes.log_tail(self.successor)},
                    hint=f"see {self.service.log}",
                )
            trial.go_on()
            time.sleep(_POLL_SECONDS)
        if self.successor.ready_at is None:
            self.successor = self.successor.model_copy(update={"ready_at": time.time()})
            self.tell(trial, "ready", f"{self.service.name} ready", time.time())
        return {"pid": self.successor.pid, "ready": True}

    def revert(self, trial: Trial) -> Evidence:
        """Kill what was started."""
        if self.successor is None:
            return {}
        trial.nodes.replaced(self.successor, None)
        done = on_node.do(trial, self.successor, on_node.KILL, seconds=GONE_SECONDS)
        self.tell(trial, "stop", f"{self.service.name} ended", time.time())
        return {"pids": done["pids"], "left": done["left"]}

    def gone(self, trial: Trial) -> Evidence:
        """Prove that it does not run any more."""
        seen = on_node.do(trial, self.successor or self.service, on_node.LOOK)
        if seen["ours"]:
            raise FaultFailed(f"{self} is not gone: pids {seen['pids']} live on", seen)
        return {"runs": False}

    def lacking(self, trial: Trial) -> str:
        """Nothing: before and after, it is not there."""
        del trial
        return ""
