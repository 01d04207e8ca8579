"""Faults broken on purpose, step by step: what did not happen as it was meant is told so, and never the product's."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import faults
from pyharness.faults import on_node
from tests.fault_bench import ask, hold, is_up, judged, lost

if TYPE_CHECKING:
    from tests.fault_bench import FaultBench

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

NOTHING_DONE = 'answer = {"process": found, "pids": pids if ours else [], "left": [], "seconds": 0.0}'


# -- no effect


def test_a_kill_that_kills_nothing(faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = faults_at.service()
    monkeypatch.setattr(on_node, "KILL", NOTHING_DONE)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service), lost))
    assert verdict == "error"
    assert failure.class_ == "test"
    assert "kill prefill on one did not take effect: pids" in failure.evidence
    assert faults_at.steps()["effect"] == "failed"
    assert "hold" not in faults_at.steps()
    assert not faults_at.record.proven
    assert faults_at.record.reverted
    assert faults_at.trial.nodes.current(service) == service


def test_the_pid_is_somebody_elses(faults_at: FaultBench) -> None:
    service = faults_at.service().model_copy(update={"pid": os.getpid()})
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Stall(service)))
    assert (verdict, failure.class_) == ("error", "test")
    assert faults_at.steps() == {"precondition": "failed"}
    assert faults_at.noted == []


def test_a_stall_that_somebody_undoes_at_once(faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = faults_at.service("leave-child")
    monkeypatch.setattr(on_node, "STOP", on_node.STOP + "send(signal.SIGCONT, answer['pids'][-1:])\ntime.sleep(0.1)\n")
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Stall(service)))
    assert (verdict, failure.class_) == ("error", "test")
    assert "did not take effect: it is not stopped" in failure.evidence
    assert faults_at.steps() | {"effect": "ok"} == dict.fromkeys(faults_at.steps(), "ok")
    assert is_up(service)


def test_a_stall_that_is_undone_in_the_hold_counts_for_nothing(faults_at: FaultBench) -> None:
    service = faults_at.service()

    def undone() -> None:
        os.kill(service.pid, signal.SIGCONT)
        lost()

    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Stall(service), undone))
    assert (verdict, failure.class_) == ("error", "test")
    assert "was not in effect any more at the end of the hold" in failure.evidence
    assert "meanwhile was seen: the request was lost" in failure.evidence
    assert faults_at.steps()["hold"] == "failed"


def test_somebody_starts_what_was_killed(faults_at: FaultBench) -> None:
    service = faults_at.service()

    def restarted() -> None:
        faults_at.supervisor.rpc.startProcess(service.name, False)  # noqa: FBT003 (XML-RPC has no names)
        deadline = 100
        while not is_up(service) and deadline:
            deadline -= 1

    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service), restarted))
    assert (verdict, failure.class_) == ("error", "test")
    assert "HTTP 200 comes from" in failure.evidence


def test_sigterm_that_is_not_delivered(faults_at: FaultBench) -> None:
    service = faults_at.service()
    os.kill(service.pid, signal.SIGSTOP)
    fault = faults.Terminate(service, drain_seconds=0.5, back=False)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, fault))
    assert (verdict, failure.class_) == ("error", "test")
    assert "SIGTERM has not been delivered" in failure.evidence


def test_a_client_that_does_not_go_away(faults_at: FaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = faults_at.service("paced=0.1")
    stream = ask(service, 60)
    assert stream.wait_events(2, 10)
    monkeypatch.setattr(stream, "cancel", lambda: None)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Cancel(stream, service)))
    assert (verdict, failure.class_) == ("error", "test")
    assert "did not take effect: the stream was over by itself (done)" in failure.evidence


def test_a_client_whose_stream_is_over(faults_at: FaultBench) -> None:
    service = faults_at.service()
    stream = ask(service)
    assert stream.result().complete
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Cancel(stream, service)))
    assert (verdict, failure.class_) == ("error", "test")
    assert "its stream was over before, done after" in failure.evidence


# -- the product's


def test_what_has_ended_before_is_told(faults_at: FaultBench) -> None:
    service = faults_at.service()
    os.kill(service.pid, signal.SIGKILL)
    while node_state.is_alive(service.pid):
        pass
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service)))
    assert (verdict, failure.class_) == ("fail", "product")
    assert "was to be killed, and is not there any more" in failure.evidence


def test_sigterm_that_is_ignored(faults_at: FaultBench) -> None:
    service = faults_at.service("ignore-sigterm")
    fault = faults.Terminate(service, drain_seconds=0.5, back=False)
    verdict, failure = judged(faults_at, lambda: hold(faults_at, fault))
    assert (verdict, failure.class_) == ("fail", "product")
    assert "s after SIGTERM, which it ignores: pids" in failure.evidence


def test_a_service_that_does_not_come_back(faults_at: FaultBench) -> None:
    service = faults_at.service()
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service), faults_at.broken.touch))
    assert (verdict, failure.class_) == ("fail", "product")
    assert "was killed and started again, and ended again" in failure.evidence
    assert "no more" in failure.evidence


def test_a_recovery_over_its_limit_has_its_figure(faults_at: FaultBench) -> None:
    service = faults_at.service()
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service), limit_seconds=0.2))
    assert (verdict, failure.class_) == ("fail", "product")
    assert "recovery from kill prefill on one" in failure.evidence
    assert "0.2 s are allowed, counted from when it was taken back" in failure.evidence
    assert faults_at.steps()["recovery"] == "failed"
    assert faults_at.record.limit_seconds == 0.2


def test_a_system_that_never_recovers(faults_at: FaultBench) -> None:
    service = faults_at.service()
    whole = [True]
    failed = lambda: hold(  # noqa: E731
        faults_at, faults.Stall(service), whole.clear, limit_seconds=0.5, recovered=lambda: bool(whole)
    )
    verdict, failure = judged(faults_at, failed)
    assert (verdict, failure.class_) == ("fail", "product")
    assert "was not over " in failure.evidence
    assert "what has to hold does not (False)" in failure.evidence
    assert faults_at.record.recovery_seconds is None
    assert faults_at.record.reverted


def test_a_store_that_comes_back_empty(faults_at: FaultBench) -> None:
    service, held = faults_at.service(), ["key"]
    fault = faults.Outage(service, lambda: list(held))
    verdict, failure = judged(faults_at, lambda: hold(faults_at, fault, held.clear))
    assert (verdict, failure.class_) == ("fail", "product")
    assert "came back without its data: [] instead of ['key']" in failure.evidence


def test_a_service_that_joins_and_is_never_ready(faults_at: FaultBench) -> None:
    service = faults_at.service("never-ready", started=False).model_copy(update={"ready_timeout": 1.0})
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Start(service)))
    assert (verdict, failure.class_) == ("fail", "product")
    assert "is not ready 1 s later" in failure.evidence


def test_a_failure_in_the_hold_is_the_one_that_is_told(faults_at: FaultBench) -> None:
    service = faults_at.service()
    verdict, failure = judged(faults_at, lambda: hold(faults_at, faults.Kill(service), lost))
    assert (verdict, failure.evidence) == ("fail", "the request was lost")
    assert faults_at.record.proven
    back = faults_at.trial.nodes.current(service)
    assert back is not None
    assert is_up(back)
