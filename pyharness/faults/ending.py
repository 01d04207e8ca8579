"""Services that end: killed, away for a while, or asked to end. Started again by the way back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyharness import exercise
from pyharness.faults import on_node
from pyharness.faults.contract import FaultFailed
from pyharness.faults.service_fault import DOOR_SECONDS, GONE_SECONDS, ServiceFault, start
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

# While a service drains, this often the run may be interrupted.
_SLICE_SECONDS = 2.0


class Ending(ServiceFault):
    """A service that is ended, and started again by the way back."""

    def effect(self, trial: Trial) -> Evidence:
        """Prove that nothing of the service lives, and that nobody has started it again."""
        seen = on_node.do(trial, self.service, on_node.LOOK, pids=self.pids)
        living = [int(pid) for pid, state in seen["states"].items() if state not in "ZX"]
        if living:
            raise FaultFailed(f"{self} did not take effect: pids {living} live on", seen)
        if seen["container"] in ("running", "paused", "restarting"):
            raise FaultFailed(f"{self} did not take effect: its container is {seen['container']}", seen)
        answer = exercise.get(self.service.ready_url, DOOR_SECONDS)
        if answer.status is not None:
            raise FaultFailed(
                f"{self} did not take effect: HTTP {answer.status} comes from {self.service.ready_url} all the same",
                seen,
            )
        return {"pids": self.pids, "gone": True, "answers": answer.problem}

    def revert(self, trial: Trial) -> Evidence:
        """Start the service as it was deployed, unless it runs."""
        if on_node.do(trial, self.service, on_node.LOOK)["ours"]:
            trial.nodes.replaced(self.service, self.service)
            return {"pid": self.service.pid, "runs": "still"}
        self.successor = start(trial, self.service)
        self.tell(
            trial, "start", f"{self.service.name} started again, pid {self.successor.pid}", self.successor.started_at
        )
        return {"pid": self.successor.pid}

    def gone(self, trial: Trial) -> Evidence:
        """Prove that the service runs."""
        service = self.successor or self.service
        seen = on_node.do(trial, service, on_node.LOOK)
        if not seen["ours"]:
            raise self.ended_again(trial, service)
        return {"pid": service.pid, "states": seen["states"]}

    def lacking(self, trial: Trial) -> str:
        """Say what the service lacks to be ready."""
        told = super().lacking(trial)
        if not told and self.successor is not None and self.successor.ready_at is None:
            self.successor = self.successor.model_copy(update={"ready_at": time.time()})
            self.tell(trial, "ready", f"{self.service.name} ready again", time.time())
        return told


class Kill(Ending):
    """SIGKILL of a service's whole process tree, or of its container. Taken back by starting it again.

    Args:
        service: which. It stays what it is to the run: teardown finds what is left of it.
    """

    name = "kill"
    done = "killed"

    def inject(self, trial: Trial) -> Evidence:
        """Kill it."""
        # Before it is done: a watch that looks in between must not take it for a crash.
        trial.nodes.replaced(self.service, None)
        done = on_node.do(trial, self.service, on_node.KILL, seconds=GONE_SECONDS)
        self.pids = done["pids"] or self.pids
        if done["left"]:
            raise FaultFailed(
                f"{self} did not take effect: pids {done['left']} live on {GONE_SECONDS:g} s after SIGKILL",
                done,
                hint="a process that does not end hangs in the kernel: see dmesg on the node",
                class_="infrastructure",
            )
        self.tell(trial, "stop", f"{self.service.name} killed", time.time())
        return {"pids": self.pids, "gone_after_seconds": done.get("seconds")}


class Outage(Kill):
    """An infrastructure service (etcd, NATS) that is killed and comes back with its data.

    Args:
        service: which.
        data: returns what it holds, or a part of it that says enough; it has to be the same before and after.
    """

    name = "outage"

    def __init__(self, service: Service, data: Callable[[], object] | None = None) -> None:
        super().__init__(service)
        self._data = data
        self._before: object = None

    def precondition(self, trial: Trial) -> Evidence:
        """Show that it runs, and read its data."""
        evidence = super().precondition(trial)
        if self._data is not None:
            self._before = self._data()
            evidence["data"] = repr(self._before)[:300]
        return evidence

    def lacking(self, trial: Trial) -> str:
        """Say what it lacks to be ready. Once it is, its data has to be there: a store does not get it back later."""
        told = super().lacking(trial)
        if not told and self.successor is not None and self._data is not None:
            try:
                after = self._data()
            except (CheckFailed, NodeError) as error:
                return f"its data cannot be read: {error}"
            if after != self._before:
                raise CheckFailed(
                    f"{self.service.name} on {self.service.node} came back without its data: {after!r:.300} "
                    f"instead of {self._before!r:.300}",
                    {"before": repr(self._before), "after": repr(after)},
                    hint=f"see {self.service.log}, and where it keeps its data",
                )
        return told


class Terminate(Ending):
    """SIGTERM, and the time that a service is given to finish its work (its drain).

    The effect is that it has ended: what it has to finish meanwhile has to be under way before, such as streams, which
    run in threads of their own.

    Args:
        service: which.
        drain_seconds: within which it has to be gone.
        back: whether it is started again afterwards. Otherwise it has left for good.
    """

    name = "terminate"
    done = "terminated"

    def __init__(self, service: Service, drain_seconds: float = 30.0, *, back: bool = True) -> None:
        super().__init__(service)
        self.revertible, self._drain = back, drain_seconds
        self._exit: Evidence | None = None

    def inject(self, trial: Trial) -> Evidence:
        """Send SIGTERM to its first process."""
        trial.nodes.replaced(self.service, None)
        return on_node.do(trial, self.service, on_node.TERMINATE)

    def effect(self, trial: Trial) -> Evidence:
        """Prove that it has ended in time, and how."""
        if self._exit is None:
            self._exit = self._drained(trial)
            self.tell(trial, "stop", f"{self.service.name} terminated: {self._exit}", time.time())
        return {**super().effect(trial), **self._exit}

    def _drained(self, trial: Trial) -> Evidence:
        started = time.monotonic()
        while True:
            left = started + self._drain - time.monotonic()
            seen = on_node.do(
                trial, self.service, on_node.WAIT_GONE, pids=self.pids, seconds=max(0.0, min(left, _SLICE_SECONDS))
            )
            spent = round(time.monotonic() - started, 2)
            if not seen["left"]:
                return {"exit_code": seen["exit"], "signal": seen["signal"], "gone_after_seconds": spent}
            if left <= 0:
                break
            trial.go_on()
        if seen["pending"]:
            raise FaultFailed(
                f"{self} did not take effect: SIGTERM has not been delivered to pid {self.service.pid}", seen
            )
        raise CheckFailed(
            f"{self.service.name} on {self.service.node} lives on {spent:g} s after SIGTERM, which it "
            f"{'ignores' if seen['ignored'] else 'has got'}: pids {seen['left']}; it has {self._drain:g} s to drain",
            seen,
            hint=f"see in {self.service.log} what it waits for",
        )
