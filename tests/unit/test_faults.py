"""The steps of a fault: which verdict follows from each, what is written down, and what the report shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import faults, journal
from pyharness.fault_record import FaultTarget
from pyharness.faults import steps
from pyharness.interrupt import Interrupted
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.node_probe import NodeError
from tests.unit.builders import FakeNodes, make_report, make_trial
from tests.unit.world import CASE

if TYPE_CHECKING:
    from pyharness.fault_record import FaultRecord
    from pyharness.results import Failure
    from pyharness.verification.base import Trial
    from tests.unit.world import World

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

WAY = ["precondition", "inject", "effect", "hold", "revert", "gone", "recovery"]
Raised = CheckFailed | NodeError | OSError


class Cut(faults.Fault):
    """A network that is cut between two nodes, in words only."""

    name = "cut"
    outlives = True

    def __init__(self, **wrong: Raised) -> None:
        self.wrong = wrong
        self.done: list[str] = []
        self.there = False

    @property
    def targets(self) -> list[FaultTarget]:
        return [FaultTarget(node="one", address="127.0.0.41"), FaultTarget(node="two", address="127.0.0.42")]

    def _do(self, step: str) -> Evidence:
        self.done.append(step)
        if step in self.wrong:
            raise self.wrong[step]
        return {"seen_at": step}

    def precondition(self, _trial: Trial) -> Evidence:
        return self._do("precondition")

    def inject(self, _trial: Trial) -> Evidence:
        self.there = True
        return self._do("inject")

    def effect(self, _trial: Trial) -> Evidence:
        if not self.there:
            raise faults.FaultFailed("it is not cut")
        return self._do("effect")

    def revert(self, _trial: Trial) -> Evidence:
        evidence = self._do("revert")
        self.there = False
        return evidence

    def gone(self, _trial: Trial) -> Evidence:
        return self._do("gone")

    def recovery_limit(self) -> float:
        return 1.0


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_BEFORE_SECONDS", 0.0)
    monkeypatch.setattr(steps, "_LATE_SECONDS", 0.0)
    monkeypatch.setattr(steps, "_POLL_SECONDS", 0.01)


class Bench:
    """A trial to which faults are made, and what follows."""

    def __init__(self) -> None:
        self.noted: list[dict[str, Any]] = []
        nodes: Any = FakeNodes({})
        self.trial = make_trial(nodes, note=lambda event, **fields: self.noted.append({"event": event, **fields}))

    def make(self, fault: faults.Fault, block: Any = lambda: None, **options: Any) -> FaultRecord:
        """Make a fault as a check does. Returns its record."""

        def check() -> Evidence:
            with faults.injected(self.trial, fault, **options) as hold:
                block()
            return hold.evidence

        self.trial.recorder.run("answer_correct", check)
        return self.trial.faults[-1]

    @property
    def failures(self) -> list[Failure]:
        return self.trial.recorder.failures

    @property
    def verdict(self) -> str:
        return make_report(failures=self.failures).judge()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def raising(error: BaseException) -> Any:
    def block() -> None:
        raise error

    return block


def test_every_step_is_in_the_report_and_the_journal(world: World) -> None:
    fault = Cut()

    def check() -> None:
        with faults.injected(world.trial, fault, limit_seconds=2, recovered=lambda: True):
            pass

    world.on["answer_correct"] = check
    assert world.live(models=("Qwen/Qwen3-8B",)).verdict == "pass"
    (record,) = world.written()["models"][0]["faults"]
    assert [step["step"] for step in record["steps"]] == WAY
    assert [step["status"] for step in record["steps"]] == ["ok"] * len(WAY)
    assert (record["proven"], record["reverted"], record["limit_seconds"]) == (True, True, 2)
    assert record["recovery_seconds"] < 2
    assert record["targets"][1] == {"node": "two", "service": None, "address": "127.0.0.42"}
    assert fault.done == ["precondition", "inject", "effect", "effect", "revert", "gone"]

    events = journal.read(world.results / CASE / journal.NAME)
    noted = [event for event in events if event["event"] == "fault"]
    assert [(event["fault"], event["step"]) for event in noted] == [("cut", "inject"), ("cut", "gone")]
    assert journal.faults_left(events) == []
    told = [event for event in world.written()["timeline"] if event["kind"] == "fault"]
    assert [event["node"] for event in told] == ["one", "two"]
    assert told[0]["text"] == "cut 127.0.0.41 on one and 127.0.0.42 on two"
    page = (world.results / CASE / "report.html").read_text()
    assert '<h2 id="faults">Faults</h2>' in page
    assert "✓ proven" in page


@pytest.mark.parametrize(
    ("step", "raised", "verdict", "class_"),
    [
        ("precondition", CheckFailed("gone before", hint="h"), "fail", "product"),
        ("precondition", faults.FaultFailed("not ours"), "error", "test"),
        ("inject", NodeError("one", "no route"), "error", "infrastructure"),
        ("effect", faults.FaultFailed("it had no effect"), "error", "test"),
        ("effect", NodeError("one", "no route"), "error", "infrastructure"),
        ("revert", NodeError("one", "no route"), "error", "infrastructure"),
        ("gone", faults.FaultFailed("it is there still"), "error", "infrastructure"),
    ],
)
def test_what_follows_from_a_step_that_fails(
    bench: Bench, step: str, raised: Raised, verdict: str, class_: str
) -> None:
    record = bench.make(Cut(**{step: raised}))
    assert bench.verdict == verdict
    assert bench.failures[0].class_ == class_
    assert str(raised) in bench.failures[0].evidence
    failed = [entry for entry in record.steps if entry.status == "failed"]
    assert failed[0].step == step
    assert str(raised) in (failed[0].problem or "")
    if step in ("inject", "effect"):
        assert "revert" in [entry.step for entry in record.steps]
        assert "hold" not in [entry.step for entry in record.steps]


def test_a_fault_that_is_left_makes_its_node_unfit(bench: Bench) -> None:
    bench.make(Cut(revert=NodeError("one", "no route")))
    assert bench.failures[0].unfit_node == "one"
    assert journal.faults_left(bench.noted) != []


def test_one_that_is_gone_all_the_same_does_not(bench: Bench) -> None:
    bench.make(Cut(gone=faults.FaultFailed("cannot be said")))
    assert bench.failures[0].unfit_node is None


def test_a_fault_that_ends_in_the_hold_hides_what_the_block_found(bench: Bench) -> None:
    fault = Cut()

    def block() -> None:
        fault.there = False
        raise CheckFailed("the request was lost", hint="h")

    record = bench.make(fault, block)
    assert bench.verdict == "error"
    assert "meanwhile was seen: the request was lost" in bench.failures[0].evidence
    assert not record.proven


def test_a_failure_in_the_hold_comes_first_and_the_fault_is_taken_back(bench: Bench) -> None:
    record = bench.make(Cut(), raising(CheckFailed("the request was lost", hint="h")))
    assert [failure.evidence for failure in bench.failures] == ["the request was lost"]
    assert bench.verdict == "fail"
    assert record.reverted


def test_what_cannot_be_taken_back_after_a_failure_is_told_beside_it(bench: Bench) -> None:
    bench.make(Cut(revert=NodeError("two", "no route")), raising(CheckFailed("the request was lost", hint="h")))
    told = {failure.check: failure for failure in bench.failures}
    assert told["answer_correct"].evidence == "the request was lost"
    assert (told["fault"].class_, told["fault"].unfit_node) == ("infrastructure", "one")


@pytest.mark.parametrize("stopped", [Interrupted("SIGTERM"), KeyboardInterrupt(), SystemExit(3)])
def test_it_is_taken_back_whatever_ends_the_block(bench: Bench, stopped: BaseException) -> None:
    fault = Cut()
    with pytest.raises(type(stopped)):
        bench.make(fault, raising(stopped))
    assert fault.done[-2:] == ["revert", "gone"]
    assert bench.trial.faults[-1].reverted
    assert journal.faults_left(bench.noted) == []


def test_what_does_not_hold_without_the_fault_is_no_measure(bench: Bench) -> None:
    fault = Cut()
    bench.make(fault, recovered=lambda: False)
    assert (bench.verdict, bench.failures[0].class_) == ("error", "test")
    assert "all was not well without it either" in bench.failures[0].evidence
    assert fault.done == ["precondition"]
    assert bench.noted == []


def test_a_recovery_that_never_comes(bench: Bench) -> None:
    fault = Cut()
    record = bench.make(fault, limit_seconds=0.05, recovered=lambda: not fault.done[3:])
    assert (bench.verdict, bench.failures[0].class_) == ("fail", "product")
    assert "0.05 s are allowed, counted from when it was taken back" in bench.failures[0].evidence
    assert record.recovery_seconds is None


def test_a_recovery_over_its_limit_has_its_figure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_LATE_SECONDS", 10.0)
    fault, limit = Cut(), 0.3
    since: list[float] = []

    def recovered() -> bool:
        if "gone" in fault.done:
            since.append(time.monotonic())
        return not since or since[-1] - since[0] > limit

    record = bench.make(fault, limit_seconds=limit, recovered=recovered)
    assert (bench.verdict, bench.failures[0].class_) == ("fail", "product")
    assert record.recovery_seconds is not None
    assert record.recovery_seconds > limit
    assert f"took {record.recovery_seconds:g} s; 0.3 s are allowed" in bench.failures[0].evidence


def test_not_yet_may_be_told_by_a_check_that_fails(bench: Bench) -> None:
    asked: list[int] = []

    def recovered() -> bool:
        asked.append(1)
        if len(asked) in (2, 3):
            raise CheckFailed("one of two workers", hint="h")
        return True

    record = bench.make(Cut(), recovered=recovered)
    assert bench.failures == []
    assert len(asked) == 4
    assert record.recovery_seconds is not None
    assert bench.trial.recorder.checks[0].evidence["recovery_seconds"] == record.recovery_seconds


def test_one_for_good_is_not_taken_back(bench: Bench) -> None:
    fault = Cut()
    evidence = faults.for_good(bench.trial, fault)
    assert evidence["seen_at"] == "effect"
    assert fault.done == ["precondition", "inject", "effect"]
    record = bench.trial.faults[0]
    assert (record.proven, record.reverted, record.recovery_seconds) == (True, None, None)
    assert journal.faults_left(bench.noted) != []


def test_faults_of_what_was_deployed_before_count_no_more() -> None:
    made = {"event": "fault", "fault": "stall", "targets": [], "step": "inject"}
    assert journal.faults_left([made]) == ["stall []"]
    assert journal.faults_left([made, {"event": "deployed"}]) == []
    assert journal.faults_left([{"event": "deployed"}, made, {**made, "step": "gone"}]) == []
