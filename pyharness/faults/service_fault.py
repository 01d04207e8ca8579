"""What all faults of one service of the run share: it is there and ours, and it is ready again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyharness import exercise
from pyharness.faults import on_node
from pyharness.faults.contract import Fault, FaultFailed, where
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.fault_record import FaultTarget
    from pyharness.verification.base import Trial

# SIGKILL takes effect at once; what a dying process holds may take a moment to be given back.
GONE_SECONDS = 10.0
# One that works answers its door at once; one that is stopped never does.
DOOR_SECONDS = 1.0
# A busy one may take its time to say that it is ready.
_READY_SECONDS = 5.0


class ServiceFault(Fault):
    """A fault of one service.

    Args:
        service: which, as it was deployed or as it ran later.

    Attributes:
        done: what is done to it, in a word.
    """

    done: ClassVar[str] = "ended"

    def __init__(self, service: Service) -> None:
        self.service = service
        self.pids: list[int] = []

    @property
    def targets(self) -> list[FaultTarget]:
        """The service."""
        return [where(self.service)]

    def precondition(self, trial: Trial) -> Evidence:
        """Show that the service runs, and is the run's own."""
        self.service = trial.nodes.current(self.service) or self.service  # it may have been started again before
        seen = on_node.do(trial, self.service, on_node.LOOK)
        if not seen["ours"]:
            raise self._not_there(trial, seen["process"])
        self.pids = seen["pids"]
        return {"pids": seen["pids"], "states": seen["states"]}

    def _not_there(self, trial: Trial, found: Evidence | None) -> CheckFailed:
        """Return the failure that it has ended; where another process has its id, that is not the product's."""
        told = (
            f"{self.service.name} on {self.service.node} (pid {self.service.pid}) was to be {self.done}, "
            f"and is not there any more: {found}"
        )
        evidence: Evidence = {"found": found, "tail": trial.nodes.log_tail(self.service)}
        if found is not None and found["state"] not in "ZX":
            return FaultFailed(told, evidence)
        return CheckFailed(told, evidence, hint=f"see in {self.service.log} why it has ended before")

    def lacking(self, trial: Trial) -> str:
        """Say what the service lacks to be ready."""
        service = self.successor or self.service
        seen = exercise.get(service.ready_url, _READY_SECONDS)
        if seen.status == 200:
            return ""
        if trial.nodes.ended([service]):
            raise self.ended_again(trial, service)
        return f"GET {service.ready_url}: {seen.problem or f'HTTP {seen.status}'}"

    def recovery_limit(self) -> float:
        """Return how long the service may take to be ready."""
        return self.service.ready_timeout

    def ended_again(self, trial: Trial, service: Service) -> CheckFailed:
        """Return the failure that it does not stay up, with its last words."""
        tail = trial.nodes.log_tail(service)
        told = f"was {self.done} and started again, and ended again" if self.successor else "has ended"
        return CheckFailed(
            f"{service.name} on {service.node} {told}; its last lines:\n" + "\n".join(tail),
            {"pid": service.pid, "tail": tail},
            hint=f"read {service.log} on {service.node}; a copy is in the results' logs folder",
        )

    def tell(self, trial: Trial, kind: str, text: str, at: float) -> None:
        """Put on the timeline what happened to the service: kind, text, at (seconds since the epoch)."""
        about = {"node": self.service.node, "service": self.service.name, "trial": trial.recorder.trial}
        trial.happened(kind, text, at=at, **about)


def start(trial: Trial, service: Service) -> Service:
    """Start a service on its node, as it was deployed. Returns it as it runs, not ready yet.

    Raises:
        NodeError: its node cannot be asked, or the run's lease on it is lost.
    """
    done = on_node.do(trial, service, on_node.START)
    current = service.model_copy(update={**done, "ready_at": None})
    trial.nodes.replaced(service, current)
    return current
