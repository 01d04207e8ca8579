"""What a fault is: a contract in steps, each of which gives evidence.

precondition → inject → prove that it took effect → hold → revert → prove that it is gone → recovery. `steps` goes
through them; a fault says what they are. Nothing here knows what a service is for: what has to hold meanwhile is a
verification's to say. A fault need not be one service's: its targets may be nodes, or the two ends of a connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pyharness.fault_record import FaultTarget
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.results import FailureClass
    from pyharness.verification.base import Trial


class FaultFailed(CheckFailed):
    """A fault did not do what it is for. It says nothing of the product, and neither does what was seen afterwards.

    Args:
        message: what was seen instead.
        evidence: what shows it.
        hint: what to do next.
        class_: whose failure it is: the harness's or the nodes'.
        unfit_node: a node on which the fault is left.
    """

    def __init__(
        self,
        message: str,
        evidence: Evidence | None = None,
        *,
        hint: str = "nothing follows from this for what is tested; see faults[] in report.json, step by step",
        class_: FailureClass = "test",
        unfit_node: str | None = None,
    ) -> None:
        super().__init__(message, evidence, hint=hint, class_=class_, spoils_judgement=True, unfit_node=unfit_node)


class Fault(ABC):
    """A fault, to be made once.

    Each step takes the trial and returns its evidence. It raises `FaultFailed` for what is the harness's or a node's,
    and `CheckFailed` of class product only where what is tested did something wrong of its own accord, such as to end.

    Attributes:
        name: what it is, in a word: "kill".
        revertible: whether it is taken back.
        outlives: whether what it has done is there still when all of the run's services have been ended, or keeps them
            from ending; its node is unfit for others then.
        targets: what it is done to.
        successor: of a service that was ended and runs again: as it runs now.
    """

    name: ClassVar[str]
    outlives: ClassVar[bool] = False
    revertible: bool = True
    successor: Service | None = None

    @property
    @abstractmethod
    def targets(self) -> list[FaultTarget]:
        """What it is done to."""

    @abstractmethod
    def precondition(self, trial: Trial) -> Evidence:
        """Show that it can be made: its target is there, is the run's own, and works."""

    @abstractmethod
    def inject(self, trial: Trial) -> Evidence:
        """Make it."""

    @abstractmethod
    def effect(self, trial: Trial) -> Evidence:
        """Prove that it is in effect. Asked right after `inject`, and once more when the hold is over."""

    def revert(self, trial: Trial) -> Evidence:
        """Take it back. Called also when `inject` failed half-way: what was not done need not be undone."""
        del trial
        return {}

    def gone(self, trial: Trial) -> Evidence:
        """Prove that nothing of it is left."""
        del trial
        return {}

    def lacking(self, trial: Trial) -> str:
        """Say what its target lacks to be as well as before; empty where it lacks nothing. Asked again and again.

        Raises:
            CheckFailed: it will never be.
        """
        del trial
        return ""

    def recovery_limit(self) -> float | None:
        """Return the seconds that recovery may take where a verification does not say; None: there is no such limit."""
        return None

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.name} {' and '.join(str(target) for target in self.targets)}"


def where(service: Service) -> FaultTarget:
    """Return a service as the target of a fault."""
    return FaultTarget(node=service.node, service=service.name)
