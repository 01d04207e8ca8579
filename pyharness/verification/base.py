"""How a check is written, run and recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness.interrupt import Interrupted
from pyharness.results import Check, Failure
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pyharness.case import TestCase
    from pyharness.deployment import Deployment
    from pyharness.engines.base import Engine
    from pyharness.exercise import Exchange
    from pyharness.fault_record import FaultRecord
    from pyharness.results import FailureClass, TransportUse
    from pyharness.streaming import Stream
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
        unfit_node: a node that no other test case should run on as it is.
    """

    def __init__(
        self,
        message: str,
        evidence: Evidence | None = None,
        *,
        hint: str,
        class_: FailureClass = "product",
        spoils_judgement: bool = False,
        unfit_node: str | None = None,
    ) -> None:
        super().__init__(message)
        self.evidence = evidence or {}
        self.hint = hint
        self.class_ = class_
        self.spoils_judgement = spoils_judgement
        self.unfit_node = unfit_node


@dataclass
class Recorder:
    """Runs checks and keeps what they gave, for one trial or for the whole run.

    Attributes:
        trial: which model, and in brackets which variant; None for the run.
        checks: results so far.
        failures: failures so far; the run's own list.
        on_result: told of each result.
    """

    trial: str | None
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
            self._fail(check_id, failed)
        except NodeError as error:
            evidence, passed, message = {}, False, str(error)
            # What cannot be seen cannot be judged, whatever else has failed for the same reason.
            hint = "see whether the node is up and reachable"
            unseen = CheckFailed(
                message, hint=hint, class_="infrastructure", spoils_judgement=True, unfit_node=error.node
            )
            self._fail(check_id, unseen)
        except Exception as error:  # noqa: BLE001 (a defect of a check must not pass for a defect of the product)
            evidence, passed, message = {}, False, f"the check itself broke: {type(error).__name__}: {error}"
            hint = "this is a defect of the harness; report it with report.json"
            self._fail(check_id, CheckFailed(message, hint=hint, class_="test"))
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

    def _fail(self, check: str, failed: CheckFailed) -> None:
        self.failures.append(
            Failure(
                class_=failed.class_,
                check=check,
                evidence=str(failed),
                hint=failed.hint,
                trial=self.trial,
                spoils_judgement=failed.spoils_judgement,
                unfit_node=failed.unfit_node,
            )
        )


def _stream(*asked: Any, **how: Any) -> Stream:
    """Begin a stream that nobody keeps and nobody watches."""
    from pyharness.streaming import Stream  # noqa: PLC0415 (its library takes its time, and few cases stream)

    return Stream(*asked, **how)


@dataclass(frozen=True)
class Trial:
    """One deployment of a case on trial: what checks look at, and what they need for it.

    Attributes:
        case: the declaration.
        deployment: what was deployed: one model in one variant.
        nodes: where it runs.
        engine: how to read what it answers.
        recorder: takes the results of checks.
        transport: takes which transport was used.
        requested_wheel: what `--wheel` said; None where it was not given.
        logs: folder for what the trial leaves.
        send: posts a body to a URL within a time in seconds, watches the services meanwhile, and keeps the exchange.
        happened: puts an event on the run's timeline: kind, text, at (seconds since the epoch) and where it was.
        stream: begins a streaming request (see `sending.Sender.stream`).
        faults: takes the record of each fault.
        note: writes an event down in the run's journal, on the disk.
        go_on: raises `Interrupted` when the run is to end.
        lease: returns what a node's lease was given with, for what is started there; None where nothing is leased.
    """

    case: TestCase
    deployment: Deployment
    nodes: Nodes
    engine: Engine
    recorder: Recorder
    transport: TransportUse
    requested_wheel: str | None
    logs: Path
    send: Callable[[str, dict[str, Any], float], Exchange]
    happened: Callable[..., None] = lambda *_what, **_details: None
    stream: Callable[..., Stream] = _stream
    faults: list[FaultRecord] = field(default_factory=list)
    note: Callable[..., None] = lambda *_what, **_details: None
    go_on: Callable[[], None] = lambda: None
    lease: Callable[[str], dict[str, Any] | None] = lambda _node: None

    @property
    def workload(self) -> dict[str, Any]:
        """The case's figures, with what the inventory says in their place."""
        return self.deployment.workload

    def skip(self, checks: Iterable[str], reason: str) -> None:
        """Record checks that cannot be made any more. What stopped them is a failure of its own."""
        for check in checks:
            self.recorder.skip(check, reason)

    def note_transport(self, used: str | None, evidence: list[dict[str, Any]]) -> None:
        """Keep what was used for the run: one transport only if every trial used the same."""
        first = not self.transport.evidence
        self.transport.used = used if first or self.transport.used == used else None
        self.transport.evidence += [{"trial": self.recorder.trial, **entry} for entry in evidence]
