"""Services of a run are killed and started again, and whoever watches over them knows of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import testinfra

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import Supervisor
from pyharness import faults
from pyharness.verification.base import CheckFailed
from pyharness.verification.node_probe import Nodes
from pyharness.verification.waiting import until
from tests.unit.builders import RUN, make_deployment, make_service, make_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

MARKS = {node_state.RUN_VARIABLE: RUN, node_state.NODE_VARIABLE: "one", node_state.SERVICE_VARIABLE: "prefill"}
ENDS_AT_ONCE = "import pathlib, sys; sys.exit('no more') if pathlib.Path('{flag}').exists() else None; "
# A server with a child, as engines have them.
SERVER = (
    "import http.server, subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
)


class LocalNodes(Nodes):
    """Nodes that are all this machine."""

    def host(self, _name: str) -> testinfra.host.Host:
        return testinfra.get_host("local://")


@pytest.fixture
def trial() -> Trial:
    """Return a trial whose nodes are this machine."""
    return make_trial(LocalNodes(Path("nowhere")), make_deployment())  # type: ignore[arg-type]


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service under a supervisord of its own; it ends at once while there is a file `broken` in its folder."""
    folder = tmp_path_factory.mktemp("f")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    supervisor = Supervisor(str(folder))
    supervisor.write_config()
    code = ENDS_AT_ONCE.format(flag=folder / "broken") + SERVER.format(port=port)
    spec = {"command": [sys.executable, "-c", code], "environment": {"PATH": "/usr/bin:/bin", **MARKS}}
    log = str(folder / "log")
    supervisor.write_program(
        "prefill", {**spec, "directory": str(folder), "log": log, "stop_signal": "KILL", "stop_grace": 1}
    )
    program = str(Path(sys.executable).with_name("supervisord"))
    subprocess.run([program, "-c", str(supervisor.config)], check=True, capture_output=True, timeout=30)
    assert supervisor.wait_up(10)
    found = supervisor.status("prefill")
    assert found is not None
    url = f"http://127.0.0.1:{port}"
    made = make_service("prefill", pid=found["pid"], run_dir=str(folder), log=log, url=url, ready_url=url)
    deadline = time.monotonic() + 20
    while len(node_state.tree(made.pid)) < 2:
        assert time.monotonic() < deadline, Path(log).read_text()
        time.sleep(0.05)
    yield made
    supervisor.rpc.shutdown()
    for left in node_state.run_processes(RUN):
        os.kill(left["pid"], 9)


def test_a_killed_service_is_gone_with_its_children_and_no_crash(trial: Trial, service: Service) -> None:
    pids = node_state.tree(service.pid)
    evidence = faults.kill(trial, service)

    assert sorted(evidence["pids"]) == sorted(pids)
    assert evidence["gone_after_seconds"] < 5
    assert [
        node_state.process(pid) for pid in pids if (node_state.process(pid) or {"state": "Z"})["state"] != "Z"
    ] == []
    assert trial.nodes.ended([service]) == []


def test_it_comes_back_as_it_was_and_is_watched_again(trial: Trial, service: Service) -> None:
    with faults.killed(trial, service) as outage:
        assert trial.nodes.current(service) is None
    back = outage.successor
    assert back is not None
    assert back.pid != service.pid
    assert node_state.process(back.pid)["run"] == RUN  # type: ignore[index]
    assert back.ready_at is not None
    assert trial.nodes.current(service) == back.model_copy(update={"ready_at": None})

    os.kill(back.pid, 9)
    assert until(lambda: trial.nodes.ended([service]), 5)[0]


def test_it_can_be_killed_again_by_the_name_it_had(trial: Trial, service: Service) -> None:
    with faults.killed(trial, service) as first:
        pass
    with faults.killed(trial, service) as second:
        pass
    assert first.successor is not None
    assert first.successor.pid in second.evidence["pids"]


def test_what_has_ended_by_itself_cannot_be_killed(trial: Trial, service: Service) -> None:
    os.kill(service.pid, 9)
    assert until(lambda: trial.nodes.ended([service]), 5)[0]
    with pytest.raises(CheckFailed, match="was to be killed, and is not there any more"):
        faults.kill(trial, service)


def test_a_process_of_others_is_not_touched(trial: Trial, service: Service) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        with pytest.raises(CheckFailed, match="is not there any more"):
            faults.kill(trial, service.model_copy(update={"pid": stranger.pid}))
        assert stranger.poll() is None
        stranger.kill()


def test_one_that_does_not_come_back_is_told_with_its_last_words(trial: Trial, service: Service) -> None:
    Path(service.run_dir, "broken").touch()
    told = r"killed and started again, and ended again(.|\n)*no more"
    with pytest.raises(CheckFailed, match=told), faults.killed(trial, service):
        pass


def test_a_failure_while_it_is_away_is_told_and_it_comes_back_all_the_same(trial: Trial, service: Service) -> None:
    with pytest.raises(CheckFailed, match="lost"), faults.killed(trial, service):
        raise CheckFailed("lost", hint="none")
    assert trial.nodes.current(service) is not None
    assert trial.nodes.ended([service]) == []


DOCKER = """#!/bin/sh
# One container, whose first process is a server of this machine.
case "$1" in
  kill) kill -9 "$(cat {folder}/pid)" ;;
  start) setsid {python} -c "{code}" >/dev/null 2>&1 & echo $! > {folder}/pid ;;
  inspect) echo "{{\\"Pid\\": $(cat {folder}/pid), \\"Running\\": true}}" ;;
  logs) echo its last words ;;
esac
"""


def test_a_container_is_killed_and_started_by_its_engine(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{(port := probe.getsockname()[1])}"
    program = tmp_path / "docker"
    program.write_text(DOCKER.format(folder=tmp_path, python=sys.executable, code=SERVER.format(port=port)))
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in MARKS.items():
        monkeypatch.setenv(name, value)
    subprocess.run([program, "start"], check=True)
    first = int((tmp_path / "pid").read_text())
    container = make_service(
        "prefill", pid=first, url=url, ready_url=url, container={"name": "c1"}, run_dir=str(tmp_path), log="none"
    )
    assert until(lambda: len(node_state.tree(first)) == 2, 10)[0]
    try:
        with faults.killed(trial, container) as outage:
            assert len(outage.evidence["pids"]) == 2
        assert outage.successor is not None
        assert outage.successor.pid == int((tmp_path / "pid").read_text()) != first
    finally:
        for left in node_state.run_processes(RUN):
            os.kill(left["pid"], 9)
