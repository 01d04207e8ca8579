"""Faults broken on purpose, step by step: what did not happen as it was meant is told so, and never the product's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import exercise, faults
from pyharness.faults import on_node, steps
from pyharness.interrupt import Interrupted
from pyharness.journal import faults_left
from pyharness.verification.base import CheckFailed
from pyharness.verification.node_probe import NodeError
from tests.fault_bench import ask
from tests.unit.builders import make_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.deployment import Service
    from pyharness.results import Failure
    from tests.fault_bench import FaultBench

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

NOTHING_DONE = 'answer = {"process": found, "pids": pids if ours else [], "left": [], "seconds": 0.0}'


def judged(bench: FaultBench, made: Callable[[], object]) -> tuple[str, Failure]:
    """Make a fault as a check does. Returns the verdict that follows, and the first failure."""

    def check() -> dict[str, Any]:
        made()
        return {}

    bench.trial.recorder.run("service_lost", check)
    failures = bench.trial.recorder.failures
    return make_report(failures=failures).judge(), failures[-1]


def hold(bench: FaultBench, fault: faults.Fault, block: Callable[[], object] = lambda: None, **options: Any) -> None:
    """Have a fault while a block runs."""
    with faults.injected(bench.trial, fault, **options):
        block()


def lost() -> None:
    raise CheckFailed("the request was lost", hint="none")


def is_up(service: Service) -> bool:
    return exercise.get(service.ready_url, 2).status == 200


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
    stream = ask(service, 15)
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
    assert "was not over 1" in failure.evidence
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


# -- the way back


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
