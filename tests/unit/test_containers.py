"""What module_utils/containers.py and watched.py make of what the docker program says."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import containers, node_state
from ansible_collections.disagg.e2e.plugins.module_utils.watched import WatchedContainer, watched
from ansible_collections.disagg.e2e.plugins.modules import deployment_replaced
from tests.unit.module_runner import run

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

# A docker program whose engine is a JSON file: containers by name, and the calls that it got.
_PROGRAM = """#!{python}
import json, sys, time
from pathlib import Path
state = Path({state!r})
engine = json.loads(state.read_text())
verb, words = sys.argv[1], sys.argv[2:]
with Path({state!r} + ".calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if engine.get("down"):
    sys.exit("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
known = engine["containers"]
if verb == "ps":
    wanted = words[words.index("--filter") + 1].removeprefix("label=")
    key, _, value = wanted.partition("=")
    for name, entry in known.items():
        if key in entry["labels"] and (not value or entry["labels"][key] == value):
            print(json.dumps(name))
elif verb == "inspect":
    names = [word for word in words if word in known]
    if "--format" in words:
        if not names:
            sys.exit("Error: No such container: " + words[-1])
        print(json.dumps(known[names[0]]["state"]))
    else:
        print(json.dumps([
            {{"Id": "id-" + name, "Name": "/" + name, "Config": {{"Labels": known[name]["labels"]}},
              "State": known[name]["state"]}} for name in names]))
elif verb == "logs":
    print(known[words[-1]]["log"])
elif verb == "wait":
    while json.loads(state.read_text())["containers"].get(words[-1], {{"state": {{}}}})["state"].get("Running"):
        time.sleep(0.02)
elif verb == "rm":
    for name in words:
        if not name.startswith("-") and not engine.get("stubborn"):
            known.pop(name)
    state.write_text(json.dumps(engine))
"""


class Engine:
    """A Docker engine made of a file."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "engine.json"
        self.set({})
        program = folder / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(_PROGRAM.format(python=sys.executable, state=str(self._state)))
        program.chmod(0o755)
        self.path = str(program.parent)

    def set(self, known: dict[str, Any], **more: Any) -> None:
        """Replace what the engine has."""
        self._state.write_text(json.dumps({"containers": known, **more}))

    @property
    def calls(self) -> list[str]:
        """Return how the program was called."""
        return Path(f"{self._state}.calls").read_text().splitlines()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine(tmp_path)
    monkeypatch.setenv("PATH", f"{made.path}{os.pathsep}{os.environ['PATH']}")
    return made


def container(run_id: str, node: str, service: str, deployment: str = "m1", **state: Any) -> dict[str, Any]:
    labels = {
        containers.RUN_LABEL: run_id,
        containers.NODE_LABEL: node,
        containers.SERVICE_LABEL: service,
        containers.DEPLOYMENT_LABEL: deployment,
    }
    told = {"Status": "running", "Running": True, "Pid": os.getpid(), "ExitCode": 0, "OOMKilled": False, "Error": ""}
    return {"labels": labels, "state": {**told, **state}, "log": f"last words of {service}"}


def test_a_runs_containers_are_told_by_their_labels(engine: Engine) -> None:
    engine.set(
        {
            "a": container("r1", "one", "prefill"),
            "b": container("r1", "two", "decode", Status="exited", Running=False),
            "c": container("r2", "one", "prefill"),
            "bystander": {"labels": {}, "state": {"Status": "running"}, "log": ""},
        }
    )
    assert {found["name"] for found in containers.run_containers("r1")} == {"a", "b"}
    assert {found["name"] for found in containers.run_containers(None)} == {"a", "b", "c"}
    (found,) = containers.run_containers("r1", "two")
    assert (found["service"], found["state"], found["run"]) == ("decode", "exited", "r1")


def test_without_an_engine_nothing_is_of_a_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.set({"a": container("r1", "one", "prefill")}, down=True)
    assert containers.run_containers("r1") == []
    with pytest.raises(containers.DockerError, match="Is the docker daemon running"):
        containers.status("a")
    monkeypatch.setenv("PATH", "/nowhere")
    assert containers.run_containers("r1") == []


def test_removing_keeps_what_a_container_has_said(engine: Engine, tmp_path: Path) -> None:
    wanted = container("r1", "one", "prefill")
    wanted["labels"][containers.LOG_LABEL] = str(tmp_path / "run" / "logs" / "m1" / "prefill.log")
    elsewhere = container("r1", "one", "decode")
    elsewhere["labels"][containers.LOG_LABEL] = str(tmp_path / "stolen.log")
    engine.set({"a": wanted, "b": elsewhere, "c": container("r1", "one", "router")})
    containers.remove(containers.run_containers("r1"), str(tmp_path / "run"), 5)
    assert containers.run_containers("r1") == []
    assert (tmp_path / "run" / "logs" / "m1" / "prefill.log").read_text() == "last words of prefill\n"
    assert (tmp_path / "run" / "logs" / "c.log").read_text() == "last words of router\n"
    assert not (tmp_path / "stolen.log").exists(), "a log goes nowhere but into the run's directory"
    verbs = [call.split()[0] for call in engine.calls]
    assert verbs.index("stop") < verbs.index("logs") < verbs.index("rm"), "the last words are said while stopping"


def test_one_that_stands_still_goes_on_before_it_is_asked_to_end(engine: Engine, tmp_path: Path) -> None:
    paused = container("r1", "one", "prefill")
    paused["state"]["Status"] = "paused"
    engine.set({"a": paused, "b": container("r1", "one", "decode")})
    containers.remove(containers.run_containers("r1"), str(tmp_path / "run"), 5)
    asked = [call for call in engine.calls if call.startswith(("unpause", "stop"))]
    assert asked == ["unpause a", "stop a b"]


def test_the_next_deployment_ends_the_one_before_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    engine.set(
        {
            "old": container("r1", "one", "prefill", "m1"),
            "same": container("r1", "one", "router", "m2"),
            "elsewhere": container("r1", "two", "decode", "m1"),
            "other run": container("r2", "one", "prefill", "m1"),
        }
    )
    given: dict[str, Any] = {"run": "r1", "run_dir": str(tmp_path), "node": "one", "deployment": "m2"}
    asked = run(deployment_replaced, check=True, **given)
    assert (asked["changed"], asked["removed"]) == (True, ["old"])
    assert run(deployment_replaced, **given)["removed"] == ["old"]
    assert {found["name"] for found in containers.run_containers(None)} == {"same", "elsewhere", "other run"}
    assert run(deployment_replaced, **given)["changed"] is False


def test_a_deployment_that_cannot_be_ended_stops_the_next(engine: Engine, tmp_path: Path) -> None:
    engine.set({"old": container("r1", "one", "prefill", "m1")}, stubborn=True)
    result = run(deployment_replaced, run="r1", run_dir=str(tmp_path), node="one", deployment="m2")
    assert result["failed"] is True
    assert "cannot be ended: old" in result["msg"]


def wait_for_end(subject: WatchedContainer) -> str:
    deadline = time.monotonic() + 10
    while (end := subject.ended()) is None:
        assert time.monotonic() < deadline, "its end was not noticed"
        time.sleep(0.01)
    return end


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"ExitCode": 3}, "exit status 3"),
        ({"ExitCode": 137, "OOMKilled": True}, "out of memory"),
        ({"ExitCode": 127, "Error": "exec: no such file"}, "exec: no such file"),
    ],
)
def test_the_end_of_a_container_is_noticed_and_explained(
    engine: Engine, tmp_path: Path, state: dict[str, Any], told: str
) -> None:
    engine.set({"a": container("r1", "one", "prefill")})
    subject = watched(str(tmp_path), {"name": "prefill", "container": "a", "log": "/unused"})
    assert isinstance(subject, WatchedContainer)
    try:
        assert subject.ended() is None
        assert subject.first_process()["pid"] == os.getpid()
        engine.set({"a": container("r1", "one", "prefill", Status="exited", Running=False, Pid=0, **state)})
        assert told in wait_for_end(subject)
        assert subject.last_words("/health") == ["last words of prefill"]
        assert subject.first_process()["pid"] == 0
        engine.set({})
        assert subject.ended() == "its container was removed"
    finally:
        subject.close()


def test_when_a_container_was_first_seen_ready_is_remembered(engine: Engine, tmp_path: Path) -> None:
    engine.set({"a": container("r1", "one", "prefill")})
    subject = WatchedContainer(str(tmp_path), "prefill", "a")
    try:
        first = subject.ready(1000.0)
        assert subject.ready(2000.0) == first == {**first, "pid": os.getpid(), "ready_at": 1000.0}
    finally:
        subject.close()


def test_memory_of_a_process_with_files_of_its_own_is_not_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = str(Path("/proc/self/ns/mnt").readlink())
    monkeypatch.setattr(os, "readlink", lambda path: mine if "self" in str(path) else "mnt:[1]")
    monkeypatch.setattr(node_state, "_read", lambda _path: b"7f0-7f1 rw-s 0 00:1 2 /dev/shm/of-a-container\n")
    assert node_state.shared_memory([1]) == set()
