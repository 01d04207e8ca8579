"""Faults of real services: each takes effect, is proven, and is taken back; and whoever watches over services knows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import exercise, faults
from pyharness.fault_record import FaultTarget
from pyharness.journal import faults_left
from pyharness.verification.base import CheckFailed
from pyharness.verification.waiting import until
from tests.fault_bench import ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fault_bench import FaultBench

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

ALL_STEPS = ["precondition", "inject", "effect", "hold", "revert", "gone", "recovery"]


def state_of(pid: int) -> str:
    return str((node_state.process(pid) or {"state": "gone"})["state"])


def test_a_killed_service_is_gone_with_its_children_and_comes_back(faults_at: FaultBench) -> None:
    service, trial = faults_at.service("leave-child"), faults_at.trial
    pids = node_state.tree(service.pid)
    assert len(pids) > 1
    with faults.injected(trial, faults.Kill(service), limit_seconds=20) as hold:
        assert sorted(hold.evidence["pids"]) == sorted(pids)
        assert {state_of(pid) for pid in pids} <= {"gone", "Z"}
        assert trial.nodes.current(service) is None
        assert trial.nodes.ended([service]) == []
        assert [note["step"] for note in faults_at.noted] == ["inject"]

    assert [step.step for step in faults_at.record.steps] == ALL_STEPS
    assert set(faults_at.steps().values()) == {"ok"}
    assert faults_at.record.proven
    assert faults_at.record.reverted
    assert hold.recovery_seconds is not None
    assert 0 < hold.recovery_seconds < 20
    assert hold.successor is not None
    assert hold.successor.ready_at is not None
    assert trial.nodes.current(service).pid == hold.successor.pid != service.pid  # type: ignore[union-attr]
    assert node_state.process(hold.successor.pid)["run"] == faults_at.run  # type: ignore[index]
    assert faults_left(faults_at.noted) == []
    assert [kind for kind, _text in faults_at.happened] == ["stop", "start", "fault", "ready"]

    os.kill(hold.successor.pid, 9)
    assert until(lambda: trial.nodes.ended([service]), 5)[0]


def test_it_can_be_killed_again_by_the_name_it_had(faults_at: FaultBench) -> None:
    service = faults_at.service()
    with faults.injected(faults_at.trial, faults.Kill(service)) as first:
        pass
    evidence = faults.for_good(faults_at.trial, faults.Kill(service))
    assert first.successor is not None
    assert first.successor.pid in evidence["pids"]
    assert faults_at.trial.nodes.current(service) is None
    assert faults_at.trial.nodes.ended([service]) == []
    assert faults_left(faults_at.noted) != []


def test_a_killed_service_breaks_its_streams_off(faults_at: FaultBench) -> None:
    service = faults_at.service("paced=0.2")
    stream = ask(service, 2000, total_seconds=200)
    assert stream.wait_events(2, 10)
    faults.for_good(faults_at.trial, faults.Kill(service))
    told = stream.result()
    assert told.ending == "truncated"
    assert not told.complete


def test_a_terminated_service_says_how_it_ended(faults_at: FaultBench) -> None:
    service = faults_at.service()
    with faults.injected(faults_at.trial, faults.Terminate(service, drain_seconds=10)) as hold:
        assert hold.evidence["exit_code"] == 0
        assert hold.evidence["signal"] is None
        assert hold.evidence["gone_after_seconds"] < 10
    assert hold.successor is not None
    evidence = faults.for_good(faults_at.trial, faults.Kill(service))
    assert evidence["pids"] == [hold.successor.pid]


def test_one_that_dies_of_sigterm_says_that_too(faults_at: FaultBench) -> None:
    service = faults_at.service()
    os.kill(service.pid, signal.SIGSTOP)
    fault = faults.Terminate(service, drain_seconds=10, back=False)
    fault.precondition(faults_at.trial)
    os.kill(service.pid, signal.SIGKILL)
    fault.inject(faults_at.trial)
    assert fault.effect(faults_at.trial)["signal"] == "SIGKILL"


def test_a_stalled_service_stands_still_and_goes_on(faults_at: FaultBench) -> None:
    service = faults_at.service("leave-child", "paced=0.1")
    stream = ask(service, 2000, total_seconds=200)
    assert stream.wait_events(2, 10)
    with faults.injected(faults_at.trial, faults.Stall(service), limit_seconds=20) as hold:
        pids = node_state.tree(service.pid)
        assert {state_of(pid) for pid in pids} == {"T"}
        assert len(hold.evidence["states"]) == len(pids) > 1
        count = len(stream.events)
        assert not stream.wait_events(count + 1, 0.3)
    assert "T" not in {state_of(pid) for pid in pids}
    assert stream.wait_events(count + 2, 10)
    stream.cancel()
    gap = stream.result().gap_during(hold.injected_at, hold.proven_at)
    assert gap is not None
    assert gap > 1
    assert hold.recovery_seconds is not None
    assert hold.successor is None


def test_an_outage_is_over_when_the_data_is_back(faults_at: FaultBench) -> None:
    service = faults_at.service()

    def data() -> object:
        return exercise.get(f"{service.url}/v1/models", 2).json()["data"][0]["id"]

    with faults.injected(faults_at.trial, faults.Outage(service, data)) as hold:
        assert exercise.get(service.ready_url, 1).status is None
    assert hold.recovery_seconds is not None
    assert faults_at.record.steps[0].evidence["data"] == "'tiny'"


def test_a_declared_service_joins_and_leaves(faults_at: FaultBench) -> None:
    service, trial = faults_at.service(started=False), faults_at.trial
    assert trial.nodes.current(service) is None
    assert trial.nodes.ended([service]) == []
    with faults.injected(trial, faults.Start(service, back=True)) as hold:
        running = trial.nodes.current(service)
        assert running is not None
        assert hold.evidence["ready"]
        assert exercise.get(service.ready_url, 1).status == 200
    assert trial.nodes.current(service) is None
    assert state_of(running.pid) in ("gone", "Z")

    faults.for_good(trial, faults.Start(service))
    again = trial.nodes.current(service)
    assert again is not None
    with faults.injected(trial, faults.Terminate(again, back=False)):
        pass
    assert trial.nodes.current(service) is None


def test_a_client_goes_away_and_the_kernel_says_so(faults_at: FaultBench) -> None:
    service = faults_at.service("paced=0.1")
    stream = ask(service, 2000, total_seconds=200)
    assert stream.wait_events(2, 10)
    with faults.injected(faults_at.trial, faults.Cancel(stream, service)) as hold:
        assert hold.evidence["closed"]
    told = stream.result()
    assert told.ending == "cancelled"
    assert 2 <= len(told.events) < 2000
    assert faults_at.record.targets[0].address == f"127.0.0.1:{stream.address[1]}"  # type: ignore[index]
    assert faults_at.record.reverted is None


def test_what_a_fault_leads_to_is_waited_for_from_its_injection(faults_at: FaultBench) -> None:
    service = faults_at.service()
    asked: list[int] = []

    def noticed() -> bool:
        asked.append(1)
        return len(asked) > 3

    fault = faults.Terminate(service, back=False)
    with faults.injected(faults_at.trial, fault, limit_seconds=10, recovered=noticed) as hold:
        assert asked == []
    assert hold.recovery_seconds is not None
    assert 0.3 < hold.recovery_seconds < 10


DOCKER = """#!/bin/sh
# One container, whose first process is a server of this machine.
case "$1" in
  kill) if [ "$2" = --signal ]; then kill -"$3" "$(cat {folder}/pid)"; else kill -9 "$(cat {folder}/pid)"; fi ;;
  pause) kill -STOP "$(cat {folder}/pid)"; touch {folder}/paused ;;
  unpause) kill -CONT "$(cat {folder}/pid)"; rm {folder}/paused ;;
  start) setsid {command} >/dev/null 2>&1 & echo $! > {folder}/pid ;;
  inspect)
    if [ -e {folder}/paused ]; then status=paused
    elif grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$(cat {folder}/pid)/status" 2>/dev/null; then status=running
    else status=exited; fi
    echo "{{\\"Pid\\": $(cat {folder}/pid), \\"Status\\": \\"$status\\", \\"ExitCode\\": 143}}" ;;
  logs) echo its last words ;;
esac
"""


def test_a_container_is_killed_stalled_and_terminated_by_its_engine(
    faults_at: FaultBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within, trial = faults_at.service(started=False), faults_at.trial
    program = tmp_path / "docker"
    serve = f"{sys.executable} -m pyharness.simulator serve --role single --host 127.0.0.1 --port {within.port}"
    serve += f" --model-path {faults_at.model} --served-model-name tiny"
    program.write_text(DOCKER.format(folder=tmp_path, command=serve))
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(node_state.RUN_VARIABLE, faults_at.run)
    subprocess.run([program, "start"], check=True)
    container = within.model_copy(
        update={"pid": int((tmp_path / "pid").read_text()), "container": {"name": "c1"}, "started_at": 1.0}
    )
    assert until(lambda: exercise.get(container.ready_url, 1).status == 200, 20)[0]

    with faults.injected(trial, faults.Kill(container)) as hold:
        pass
    assert hold.successor is not None
    assert hold.successor.pid == int((tmp_path / "pid").read_text()) != container.pid
    with faults.injected(trial, faults.Stall(container)) as hold:
        assert hold.evidence["container"] == "paused"
    with faults.injected(trial, faults.Terminate(container, back=False)) as hold:
        assert hold.evidence["signal"] == "SIGTERM"
    assert trial.nodes.current(container) is None


def test_a_process_of_others_is_not_touched(faults_at: FaultBench) -> None:
    service = faults_at.service()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        for kind in (faults.Kill, faults.Stall, faults.Terminate):
            with pytest.raises(CheckFailed, match="is not there any more"):
                faults.for_good(faults_at.trial, kind(service.model_copy(update={"pid": stranger.pid})))
        assert stranger.poll() is None
        assert state_of(stranger.pid) == "S"
        stranger.kill()


def test_a_fault_need_not_be_one_services(faults_at: FaultBench) -> None:
    """A fault of a verification's own, such as a cut between two addresses, goes the same way."""
    cut: list[str] = []

    class Cut(faults.Fault):
        name = "cut"
        outlives = True

        @property
        def targets(self) -> list[FaultTarget]:
            return [FaultTarget(node="one", address="127.0.0.41"), FaultTarget(node="two", address="127.0.0.42")]

        def precondition(self, _trial: object) -> dict[str, object]:
            return {"reached": not cut}

        def inject(self, _trial: object) -> dict[str, object]:
            cut.append("there")
            return {}

        def effect(self, _trial: object) -> dict[str, object]:
            return {"reached": not cut}

        def revert(self, _trial: object) -> dict[str, object]:
            cut.clear()
            return {}

    with faults.injected(faults_at.trial, Cut(), limit_seconds=1, recovered=lambda: not cut) as hold:
        assert hold.evidence["target"] == "127.0.0.41 on one, 127.0.0.42 on two"
    assert set(faults_at.steps().values()) == {"ok"}
    assert [target.address for target in faults_at.record.targets] == ["127.0.0.41", "127.0.0.42"]
