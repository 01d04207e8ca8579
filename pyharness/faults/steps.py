"""A fault's steps, one after the other: every one recorded, and the way back gone whatever happens."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyharness.fault_record import FaultRecord, FaultStep
from pyharness.faults.contract import FaultFailed
from pyharness.journal import FAULT
from pyharness.results import Failure
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.deployment import Service
    from pyharness.fault_record import StepName
    from pyharness.faults.contract import Fault
    from pyharness.verification.base import Trial

_POLL_SECONDS = 0.1
# How long what has to be so afterwards may take to be so before, when nothing has happened yet.
_BEFORE_SECONDS = 10.0
# How much longer than allowed a recovery is waited for, to tell how long it did take.
_LATE_SECONDS = 10.0


@dataclass
class Hold:
    """A fault that is in effect.

    Attributes:
        evidence: which fault, what proves it, and afterwards how long the recovery took.
        injected_at: when it was about to be made, on the monotonic clock.
        proven_at: when it was proven, on the same.
        recovery_seconds: after the block: see `FaultRecord`.
        successor: after the block: the service as it runs now, where it was started again.
    """

    evidence: Evidence
    injected_at: float = 0.0
    proven_at: float = 0.0
    recovery_seconds: float | None = None
    successor: Service | None = None


@dataclass
class Steps:
    """The way of one fault. See `running.injected`, whose arguments these are."""

    trial: Trial
    fault: Fault
    limit: float | None
    recovered: Callable[[], object] | None
    hold: Hold = field(init=False)
    record: FaultRecord = field(init=False)

    def __post_init__(self) -> None:
        self.limit = self.fault.recovery_limit() if self.limit is None else self.limit
        targets = self.fault.targets
        self.record = FaultRecord(name=self.fault.name, targets=targets, at=round(time.time(), 3))
        if self.limit is not None and (self.fault.revertible or self.recovered):
            self.record.limit_seconds = self.limit
        self.hold = Hold({"fault": self.fault.name, "target": ", ".join(str(target) for target in targets)})
        self.trial.faults.append(self.record)

    # -- there

    def begin(self) -> None:
        """Go until the fault is in effect, or back."""
        self._step("precondition", self._precondition)
        self._note("inject")
        self.hold.injected_at = time.monotonic()
        self.record.at = round(time.time(), 3)
        try:
            self._step("inject", lambda: self._as_fault(self.fault.inject, "could not be made"))
            proof = self._step("effect", lambda: self.fault.effect(self.trial))
        except BaseException:
            self.undo()
            raise
        self.hold.proven_at = time.monotonic()
        self.record.proven = True
        self.hold.evidence |= proof

    def _precondition(self) -> Evidence:
        evidence = self.fault.precondition(self.trial)
        if not self.fault.revertible:
            return evidence
        last, waited = self._wait(_BEFORE_SECONDS)
        if last:
            raise FaultFailed(
                f"{self.fault} is not made, because all was not well without it either, {waited:g} s long: {last}",
                evidence,
                hint="what recovery is measured by has to hold before the fault too",
            )
        return evidence

    def end_of_hold(self, since: float, at: float, error: Exception | None = None) -> None:
        """Prove that the fault was in effect to the end: otherwise nothing follows from what was seen meanwhile."""
        try:
            proof, problem = self.fault.effect(self.trial), None
        except (CheckFailed, NodeError) as lost:
            proof, problem = getattr(lost, "evidence", {}), str(lost)
        spent = round(time.monotonic() - since, 3)
        status = "failed" if problem else "ok"
        self.record.steps.append(
            FaultStep(step="hold", status=status, at=round(at, 3), seconds=spent, evidence=proof, problem=problem)
        )
        if problem:
            self.record.proven = False
            self.undo()
            seen = f"; meanwhile was seen: {error}" if error else ""
            raise FaultFailed(f"{self.fault} was not in effect any more at the end of the hold: {problem}{seen}", proof)

    # -- and back

    def end(self) -> None:
        """Take the fault back, and see that all recovers."""
        began = time.monotonic()
        if self.fault.revertible:
            try:
                self._back()
            finally:
                self.tell()
        else:
            began = self.hold.injected_at
            self.tell()
        if self.fault.revertible or self.recovered is not None:
            self._step("recovery", lambda: self._recovery(began))
        self.hold.successor = self.fault.successor

    def undo(self) -> None:
        """Take the fault back after a failure or an interruption, whose place no other failure takes."""
        try:
            if self.fault.revertible:
                self._back()
                self._well_for_others()
        except FaultFailed as left:
            self.trial.recorder.failures.append(
                Failure(
                    class_=left.class_,
                    check="fault",
                    evidence=str(left),
                    hint=left.hint,
                    trial=self.trial.recorder.trial,
                    unfit_node=left.unfit_node,
                )
            )
        except (CheckFailed, NodeError):
            pass  # recorded with its step; what it is undone for is what counts
        finally:
            self.tell()

    def _back(self) -> None:
        self.record.reverted = False
        try:
            self._step("revert", lambda: self._as_fault(self.fault.revert, "could not be taken back"))
            self._step("gone", lambda: self.fault.gone(self.trial))
        except (FaultFailed, NodeError) as error:
            raise FaultFailed(
                str(error),
                getattr(error, "evidence", {}),
                class_="infrastructure",
                hint="see on the node what is left of it; teardown ends all of the run's processes",
                unfit_node=self._unfit(),
            ) from error
        self.record.reverted = True
        with suppress(OSError):  # then a later harness takes it for not reverted, and deploys anew
            self._note("gone")

    def _unfit(self) -> str | None:
        """Return the node on which the fault is left, as far as that can be seen."""
        if not self.fault.outlives:
            return None
        try:
            self.fault.effect(self.trial)
        except CheckFailed:
            return None
        except NodeError as error:
            return error.node
        return next((target.node for target in self.fault.targets if target.node), None)

    def _well_for_others(self) -> None:
        """Wait for the fault's target, for the checks that follow one that has failed."""
        self.recovered = None
        if not self._interrupted() and self.limit is not None:
            self._wait(self.limit)

    def _interrupted(self) -> bool:
        try:
            self.trial.go_on()
        except Exception:  # noqa: BLE001 (whatever ends the run)
            return True
        return False

    def _recovery(self, began: float) -> Evidence:
        limit = self.limit if self.limit is not None else _BEFORE_SECONDS
        last, _waited = self._wait(began + limit + min(limit, _LATE_SECONDS) - time.monotonic())
        spent = round(time.monotonic() - began, 3)
        evidence: Evidence = {"recovery_seconds": None if last else spent, "limit_seconds": limit}
        self.hold.evidence |= evidence
        if not last:
            self.record.recovery_seconds = self.hold.recovery_seconds = spent
        if last or spent > limit:
            told = f"was not over {spent:g} s later: {last}" if last else f"took {spent:g} s"
            since = "it was taken back" if self.fault.revertible else "it was made"
            raise CheckFailed(
                f"recovery from {self.fault} {told}; {limit:g} s are allowed, counted from when {since}",
                evidence,
                hint="see the services' logs around the fault; the timeline in report.html has its moments",
            )
        return evidence

    def _wait(self, seconds: float) -> tuple[str, float]:
        """Wait until all is well. Returns what is lacking still, empty where nothing is, and the seconds it took."""
        started = time.monotonic()
        while True:
            last = (self.fault.lacking(self.trial) if self.fault.revertible else "") or self._not_recovered()
            spent = time.monotonic() - started
            if not last or spent > seconds:
                return last, round(spent, 3)
            self.trial.go_on()
            time.sleep(_POLL_SECONDS)

    def _not_recovered(self) -> str:
        if self.recovered is None:
            return ""
        try:
            found = self.recovered()
        except (CheckFailed, NodeError) as error:
            return str(error) or type(error).__name__
        return "" if found else f"what has to hold does not ({found!r})"

    # -- the record

    def _as_fault(self, step: Callable[[Trial], Evidence], told: str) -> Evidence:
        try:
            return step(self.trial)
        except NodeError as error:
            raise FaultFailed(
                f"{self.fault} {told}: {error}",
                class_="infrastructure",
                hint="see whether the node is up and reachable",
            ) from error

    def _step(self, step: StepName, work: Callable[[], Evidence]) -> Evidence:
        entry = FaultStep(step=step, status="failed", at=round(time.time(), 3), seconds=0.0)
        self.record.steps.append(entry)
        started = time.monotonic()
        try:
            entry.evidence = work()
            entry.status = "ok"
        except CheckFailed as failed:
            entry.evidence, entry.problem = failed.evidence, str(failed)
            raise
        except BaseException as error:
            entry.problem = f"{type(error).__name__}: {error}"
            raise
        finally:
            entry.seconds = round(time.monotonic() - started, 3)
        return entry.evidence

    def _note(self, step: str) -> None:
        """Write down on the disk what is about to be done, or is over."""
        targets = [target.model_dump() for target in self.fault.targets]
        self.trial.note(FAULT, fault=self.fault.name, targets=targets, trial=self.trial.recorder.trial, step=step)

    def tell(self) -> None:
        """Put the fault on the timeline, from its injection to the end of the revert."""
        known = [step for step in self.record.steps if step.step in ("inject", "effect", "hold", "revert", "gone")]
        if not known:
            return
        end = max(step.at + step.seconds for step in known)
        bad = next((step for step in self.record.steps if step.status == "failed"), None)
        for target in self.record.targets:
            self.trial.happened(
                "fault",
                f"{self.fault}" + (f": {bad.step} failed" if bad else ""),
                at=self.record.at,
                node=target.node,
                service=target.service,
                trial=self.trial.recorder.trial,
                seconds=round(end - self.record.at, 3),
                ok=bad is None,
            )
