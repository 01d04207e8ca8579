"""What a machine is and has, from real files, real limits, a real Docker socket's protocol and real HTTP servers."""

from __future__ import annotations

import http.server
import json
import os
import resource
import socket
import socketserver
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.action import node_info as node_info_action
from ansible_collections.disagg.e2e.plugins.module_utils import gpu, node_facts, node_state, occupants
from ansible_collections.disagg.e2e.plugins.modules import node_info
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.43.0.42"
CONTAINER = "c" * 64


# ---------------------------------------------------------------- node_facts


@pytest.mark.parametrize("place", ["etc/os-release", "usr/lib/os-release"])
def test_the_system_is_that_of_os_release(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text('# comment = no\nID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n')
    found = node_facts.operating_system(str(tmp_path))
    assert (found["id"], found["version"], found["name"]) == ("ubuntu", "22.04", "Ubuntu 22.04.5 LTS")
    assert found["kernel"] == os.uname().release


def test_a_system_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    found = node_facts.operating_system(str(tmp_path))
    assert (found["id"], found["version"], found["name"]) == ("", "", "")


def test_a_disk_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    there, later = node_facts.disk(str(tmp_path)), node_facts.disk(str(tmp_path / "not" / "yet"))
    assert (there["exists"], there["writable"]) == (True, True)
    assert (later["exists"], later["writable"]) == (False, True)
    assert later["total_bytes"] == there["total_bytes"] > there["free_bytes"] > 0


def test_the_limit_of_locked_memory_is_this_processs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nCapEff:\t0000000000004000\n")
    monkeypatch.setattr(node_facts, "_memlock", lambda: (65536, resource.RLIM_INFINITY))
    found = node_facts.locked_memory(str(status))
    assert found == {"soft_bytes": 65536, "hard_bytes": None, "exempt": True}
    status.write_text("CapEff:\t000001ffffffbfff\n")
    assert node_facts.locked_memory(str(status))["exempt"] is False


def test_the_limit_that_is_read_is_the_kernels() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))\n"
        "from ansible_collections.disagg.e2e.plugins.module_utils import node_facts\n"
        "print(node_facts.locked_memory()['hard_bytes'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "4096\n"


@pytest.mark.parametrize(
    ("variables", "files", "index"),
    [
        ({}, {}, "https://default.invalid/s"),
        (
            {"PIP_INDEX_URL": "https://a.invalid/s"},
            {".config/pip/pip.conf": "https://b.invalid/s"},
            "https://a.invalid/s",
        ),
        ({}, {".config/pip/pip.conf": "https://b.invalid/s"}, "https://b.invalid/s"),
        ({}, {".pip/pip.conf": "https://c.invalid/s"}, "https://c.invalid/s"),
    ],
)
def test_the_package_index_is_pips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], files: dict[str, str], index: str
) -> None:
    for name, url in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"[global]\nindex-url = {url}\n")
    monkeypatch.setattr(node_facts, "_SYSTEM_PIP_CONFIGURATIONS", ())
    monkeypatch.setattr(node_facts, "_default_index", lambda: "https://default.invalid/s")
    assert node_facts.package_index(variables, str(tmp_path)) == index


def test_the_default_is_pips_own_and_none_where_there_is_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_facts._default_index().startswith("https://")
    monkeypatch.setitem(sys.modules, "pip._internal.models.index", None)
    assert node_facts._default_index() == ""


def test_a_configuration_of_pip_that_is_none_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_facts, "_SYSTEM_PIP_CONFIGURATIONS", ())
    (tmp_path / "pip.conf").write_text("no section\n")
    found = node_facts.package_index({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}, "/nowhere")
    assert found == node_facts._default_index()


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers HEAD with 401, as a registry does that wants a log-in."""

    def do_HEAD(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def test_whoever_answers_is_reached_and_whoever_does_not_is_told_without_secrets() -> None:
    with http.server.HTTPServer((ADDRESS, 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://user:token-123@{ADDRESS}:{server.server_port}/simple"
        with socket.socket() as closed:
            closed.bind((ADDRESS, 0))
            found = node_facts.reach([url, f"http://u:token-123@{ADDRESS}:{closed.getsockname()[1]}/", "no address"])
        server.shutdown()
    there, refused, wrong = found
    assert (there["status"], there["error"]) == (401, None)
    assert (refused["status"], refused["error"]) == (None, "[Errno 111] Connection refused")
    assert "unknown url type" in wrong["error"]
    assert "token-123" not in json.dumps(found)
    assert node_facts.reach([]) == []


# ---------------------------------------------------------------- the Docker engine


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers as a Docker engine does, at a socket of its own."""

    def __init__(self, path: Path, answers: dict[str, Any]) -> None:
        self.answers = answers
        super().__init__(str(path), EngineHandler)


class EngineHandler(http.server.BaseHTTPRequestHandler):
    """One request to the engine."""

    server: Any

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        body = json.dumps(self.server.answers.get(name, {"message": f"No such thing: {name}"})).encode()
        self.send_response(200 if name in self.server.answers else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], str]]:
    """Return a function that starts an engine with these answers, and returns its socket."""
    started: list[Engine] = []

    def start(answers: dict[str, Any]) -> str:
        path = tmp_path / f"docker-{len(started)}.sock"
        started.append(Engine(path, answers))
        threading.Thread(target=started[-1].serve_forever, daemon=True).start()
        return str(path)

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


INFO = {"Driver": "overlay2", "Runtimes": {"runc": {}, "nvidia": {}}}
DAEMON = {"/version": {"Version": "20.10.24", "ApiVersion": "1.41"}, "/info": INFO, "/containers/json": []}


def test_an_engine_is_described(engine: Callable[[dict[str, Any]], str]) -> None:
    path = engine({**DAEMON, "/images/198.18.0.1%3A5000/a/b%3A1/json": {}})
    found = node_facts.docker("198.18.0.1:5000/a/b:1", path)
    assert (found["error"], found["version"], found["runtimes"]) == (None, "20.10.24", ["nvidia", "runc"])
    assert found["has_image"] is True
    assert node_facts.docker("other:1", path)["has_image"] is False
    assert node_facts.docker("", path)["has_image"] is None


def test_an_engine_that_does_not_answer_is_told(tmp_path: Path) -> None:
    found = node_facts.docker("a:1", str(tmp_path / "none.sock"))
    assert "No such file or directory" in found["error"]
    assert (found["version"], found["has_image"]) == ("", None)


def container(run: str, **changes: Any) -> dict[str, Any]:
    labels = {"disagg-e2e.run": run, "disagg-e2e.node": "one", "disagg-e2e.service": "decode"}
    entry = {"Id": CONTAINER, "Names": ["/decode-1"], "State": "exited", "Created": 1767225600, "Labels": labels}
    return {**entry, **changes}


def test_the_containers_of_runs_are_listed(engine: Callable[[dict[str, Any]], str], tmp_path: Path) -> None:
    (found,) = occupants.run_containers(engine({"/containers/json": [container("theirs")]}))
    assert (found["run"], found["node"], found["service"]) == ("theirs", "one", "decode")
    assert (found["name"], found["state"], found["since"]) == ("decode-1", "exited", 1767225600.0)
    assert occupants.run_containers(str(tmp_path / "none.sock")) == []


def test_other_runs_are_told_with_all_that_they_have(
    engine: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def processes() -> list[dict[str, Any]]:
        return [
            {"run": "theirs", "node": "two", "service": "prefill", "started_at": 1767225500.0},
            {"run": "mine", "node": "one", "service": None, "started_at": 1.0},
            {"run": "old", "node": None, "service": None, "started_at": 2.0},
        ]

    monkeypatch.setattr(node_state, "run_processes", processes)
    listed = occupants.run_containers(engine({"/containers/json": [container("theirs"), container("mine")]}))
    old, theirs = occupants.others("mine", listed)
    assert theirs == {
        "run": "theirs",
        "nodes": ["one", "two"],
        "services": ["decode", "prefill"],
        "processes": 1,
        "containers": ["decode-1"],
        "since": 1767225500.0,
    }
    assert (old["run"], old["processes"], old["containers"], old["since"]) == ("old", 1, [], 2.0)


def test_a_process_of_a_container_is_of_the_containers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [{"id": CONTAINER, "run": "theirs", "node": "one", "service": "decode"}]
    monkeypatch.setattr(gpu, "container_of", lambda _pid: CONTAINER)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={}) as other:
        found = occupants.owner(other.pid, listed)
        unknown = occupants.owner(other.pid, [])
        assert other.stdin is not None
        other.stdin.close()
    assert found is not None
    assert (found["run"], found["service"], found["pid"]) == ("theirs", "decode", other.pid)
    assert unknown is not None
    assert unknown["run"] is None
    assert occupants.owner(other.pid, listed) is None, "a process that has gone is nobody's"


SMI = """\
#!/bin/sh
case "$1" in
  --query-gpu=*) echo "6, GPU-6, NVIDIA A10, 23028, 300, 550.54.15" ;;
  --query-compute-apps=*) echo "GPU-6, {pid}, 290" ;;
  *) echo "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4 |" ;;
esac
"""


def test_who_holds_a_gpu_is_described_by_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(SMI.format(pid=os.getpid()))
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    result = run(node_info, address=ADDRESS, path=str(tmp_path), gpus=True)
    assert (result["gpus"]["problem"], result["gpus"]["driver"]) == ("", "550.54.15")
    (one,) = result["gpus"]["gpus"]
    assert one["processes"][0]["pid"] == os.getpid()


def test_without_nvidia_smi_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia-smi is not there" in run(node_info, address=ADDRESS, path="/", gpus=True)["gpus"]["problem"]


# ---------------------------------------------------------------- node_info


def test_what_is_not_asked_for_is_not_looked_at(tmp_path: Path) -> None:
    result = run(node_info, address=ADDRESS, path=str(tmp_path))
    assert (result["gpus"], result["docker"], result["endpoints"]) == (None, None, [])
    assert result["quarantine"] is None
    assert result["system"]["architecture"] == os.uname().machine


def test_a_disk_goes_by_the_name_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    disks = run(node_info, address=ADDRESS, path="~/state", disks=["/"])["disks"]
    assert (disks["~/state"]["exists"], disks["/"]["exists"]) == (False, True)


def test_a_quarantine_is_read(tmp_path: Path) -> None:
    entry = {"node": "one", "reason": "full", "run": "r", "since": "2026-01-01T00:00:00Z"}
    (tmp_path / "quarantine.json").write_text(json.dumps(entry))
    assert run(node_info, address=ADDRESS, path=str(tmp_path))["quarantine"] == entry


# ---------------------------------------------------------------- the clock


def clock_of(node_ahead: float, latency: float, monkeypatch: pytest.MonkeyPatch, answer: str | None = None) -> Any:
    """Run the action with a node whose clock is ahead, behind a connection that takes `latency` each way."""
    now = [1000.0]

    def command(text: str, **_options: Any) -> dict[str, str]:
        assert text == "date +%s.%N"
        now[0] += latency
        told = f"{now[0] + node_ahead:.9f}\n" if answer is None else answer
        now[0] += latency
        return {"stdout": told}

    monkeypatch.setattr(node_info_action, "time", SimpleNamespace(time=lambda: now[0]))
    return taken(command)


def taken(command: Callable[..., dict[str, str]]) -> Any:
    """Let the action take the clock of a node that runs commands like this."""
    action: Any = SimpleNamespace(_low_level_execute_command=command)
    return node_info_action.ActionModule._clock(action)


@pytest.mark.parametrize("ahead", [0.0, 3.25, -7.0])
def test_a_slow_connection_is_no_skew(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = clock_of(ahead, latency=1.5, monkeypatch=monkeypatch)
    assert found == {"offset_seconds": ahead, "uncertainty_seconds": 1.5}


@pytest.mark.parametrize("answer", ["", "date: not found", "1767225600.%N"])
def test_a_node_that_does_not_tell_its_time_has_no_clock(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock_of(0.0, 0.1, monkeypatch, answer) is None


def test_the_real_command_tells_the_real_time() -> None:
    def command(text: str, **_options: Any) -> dict[str, str]:
        return {"stdout": subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout}

    found = taken(command)
    assert abs(found["offset_seconds"]) <= found["uncertainty_seconds"] + 0.001
