"""The way back from a fault, broken on purpose: what is left of it is told, and what ends a run takes it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import faults
from pyharness.faults import on_node, steps
from pyharness.interrupt import Interrupted
from pyharness.journal import faults_left
from pyharness.verification.node_probe import NodeError
from tests.fault_bench import hold, is_up, judged, lost

if TYPE_CHECKING:
    from tests.fault_bench import FaultBench

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]


def test_a_stall_that_cannot_be_taken_back(faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = faults_at.service()
    monkeypatch.setattr(on_node, "CONTINUE", 'answer = {"pids": []}')
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Stall(service)))
    assert (verdict, failure.class_, failure.unfit_node) == ("error", "infrastructure", "one")
    assert "stall prefill on one is not gone" in failure.evidence
    assert faults_at.record.reverted is False
    assert faults_left(faults_at.noted) != []


def test_after_a_failure_that_is_told_too(faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = faults_at.service()
    monkeypatch.setattr(on_node, "CONTINUE", 'answer = {"pids": []}')
    judged(faults_at, lambda: hold(faults_at, faults.Stall(service), lost))
    told = [(failure.class_, failure.unfit_node) for failure in faults_at.trial.recorder.failures]
    assert told == [("infrastructure", "one"), ("product", None)]


def test_nothing_is_started_on_a_lost_lease(faults_at: FaultBench) -> None:
    service = faults_at.service()
    lease = {"file": str(faults_at.folder / "nobodys.json"), "number": 1}
    object.__setattr__(faults_at.trial, "lease", lambda _node: lease)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service)))
    assert (verdict, failure.class_, failure.unfit_node) == ("error", "infrastructure", None)
    assert "could not be taken back" in failure.evidence
    assert "lease lost" in failure.evidence
    assert faults_at.trial.nodes.current(service) is None


def test_a_node_that_cannot_be_asked(faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = faults_at.service()

    def gone(*_asked: Any, **_more: Any) -> dict[str, Any]:
        raise NodeError("one", "no route to host")

    def cut() -> None:
        monkeypatch.setattr(on_node, "do", gone)

    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Stall(service), cut))
    assert verdict == "error"
    assert "one cannot be asked: no route to host" in failure.evidence


@pytest.mark.parametrize("asked_to_stop", [Interrupted("SIGINT"), KeyboardInterrupt()])
@pytest.mark.parametrize("kind", [faults.Kill, faults.Stall])
def test_an_interruption_in_the_hold(
    faults_at: FaultBench, kind: type[faults.Kill | faults.Stall], asked_to_stop: BaseException
) -> None:
    service = faults_at.service()

    def interrupted() -> None:
        def stop() -> None:
            raise asked_to_stop

        object.__setattr__(faults_at.trial, "go_on", stop)
        stop()

    with pytest.raises(type(asked_to_stop)):
        hold(faults_at, kind(service), interrupted)
    assert faults_at.record.reverted
    assert faults_left(faults_at.noted) == []
    now = faults_at.trial.nodes.current(service)
    assert now is not None
    assert node_state.process(now.pid)["state"] != "T"  # type: ignore[index]


def test_what_cannot_be_written_down_is_not_done(faults_at: FaultBench) -> None:
    service = faults_at.service()

    def full(*_what: Any, **_fields: Any) -> None:
        raise OSError(28, "No space left on device")

    object.__setattr__(faults_at.trial, "note", full)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service)))
    assert verdict == "error"
    assert "No space left" in failure.evidence
    assert is_up(service)


def test_what_was_not_well_before_proves_nothing_afterwards(
    faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_BEFORE_SECONDS", 0.5)
    service = faults_at.service()
    fault = faults.Kill(service)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, fault, recovered=lambda: False))
    assert (verdict, failure.class_) == ("error", "test")
    assert "is not made, because all was not well without it either" in failure.evidence
    assert is_up(service)


def test_one_that_runs_already_cannot_join(faults_at: FaultBench) -> None:
    service = faults_at.service()
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Start(service)))
    assert (verdict, failure.class_) == ("error", "test")
    assert f"it runs as pid {service.pid} already" in failure.evidence
    assert Path(service.log).exists()
