"""How a check is written, run and recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness.interrupt import Interrupted
from pyharness.results import Check, Failure
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.deployment import Deployment
    from pyharness.results import FailureClass
    from pyharness.verification.node_probe import Nodes

Evidence = dict[str, Any]


class CheckFailed(Exception):  # noqa: N818 (a verdict, not an error of the program)
    """A statement does not hold.

    Args:
        message: what was found instead, one line first.
        evidence: what shows it.
        hint: what to do next.
        class_: whose failure it is.
        spoils_judgement: whether it makes the other checks worthless.
    """

    def __init__(
        self,
        message: str,
        evidence: Evidence | None = None,
        *,
        hint: str,
        class_: FailureClass = "product",
        spoils_judgement: bool = False,
    ) -> None:
        super().__init__(message)
        self.evidence = evidence or {}
        self.hint = hint
        self.class_ = class_
        self.spoils_judgement = spoils_judgement


@dataclass
class Recorder:
    """Runs checks and keeps what they gave, for one model or for the whole run.

    Attributes:
        model: the model's name; None for the run.
        checks: results so far.
        failures: failures so far; the run's own list.
        on_result: told of each result.
    """

    model: str | None
    failures: list[Failure]
    checks: list[Check] = field(default_factory=list)
    on_result: Callable[[Check, str], None] = lambda _check, _message: None

    def run(self, check_id: str, check: Callable[[], Evidence]) -> bool:
        """Run one check. Returns whether it passed."""
        started = time.monotonic()
        message = ""
        try:
            evidence, passed = check(), True
        except Interrupted:
            raise
        except CheckFailed as failed:
            evidence, passed, message = failed.evidence, False, str(failed)
            self._fail(check_id, message, failed.class_, failed.hint, spoils=failed.spoils_judgement)
        except NodeError as error:
            evidence, passed, message = {}, False, str(error)
            # What cannot be seen cannot be judged, whatever else has failed for the same reason.
            self._fail(check_id, message, "infrastructure", "see whether the node is up and reachable", spoils=True)
        except Exception as error:  # noqa: BLE001 (a defect of a check must not pass for a defect of the product)
            evidence, passed, message = {}, False, f"the check itself broke: {type(error).__name__}: {error}"
            self._fail(check_id, message, "test", "this is a defect of the harness; report it with report.json")
        result = Check(
            id=check_id,
            status="pass" if passed else "fail",
            evidence=evidence,
            seconds=round(time.monotonic() - started, 3),
        )
        self.checks.append(result)
        self.on_result(result, message)
        return passed

    def skip(self, check_id: str, reason: str) -> None:
        """Record that a check could not be made any more. What stopped it is a failure of its own."""
        result = Check(id=check_id, status="skipped", evidence={"reason": reason}, seconds=0.0)
        self.checks.append(result)
        self.on_result(result, reason)

    def _fail(self, check: str, message: str, class_: FailureClass, hint: str, *, spoils: bool = False) -> None:
        self.failures.append(
            Failure(
                class_=class_,
                check=check,
                evidence=message,
                hint=hint,
                model=self.model,
                spoils_judgement=spoils,
            )
        )


@dataclass(frozen=True)
class Subject:
    """What checks look at: a deployment, its nodes, and what the run was asked for."""

    deployment: Deployment
    nodes: Nodes
    requested_wheel: str | None
