"""What the role docker_engine decides by: settings merged, and the engine, its file and apt's locks read."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.disagg.e2e.plugins.filter.daemon_settings import FilterModule, daemon_settings
from ansible_collections.disagg.e2e.plugins.module_utils import apt_lock, docker_engine
from ansible_collections.disagg.e2e.plugins.modules import docker_engine_info
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

VERSION = {"Version": "28.3.0", "ApiVersion": "1.51"}
INFO = {
    "Driver": "overlay2",
    "Runtimes": {"runc": {}, "nvidia": {}},
    "RegistryConfig": {
        "Mirrors": ["http://mirror.example:5000/"],
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "IndexConfigs": {"docker.io": {"Secure": True}, "registry.example:5000": {"Secure": False}},
    },
    "LiveRestoreEnabled": True,
    "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}],
}
RUNNING = [{"Names": ["/somebodys-work"], "Image": "somebodys:1"}]


# ---------------------------------------------------------------- daemon_settings


@pytest.mark.parametrize(
    ("there", "wanted", "merged"),
    [
        ({}, {"debug": True}, {"debug": True}),
        ({"labels": ["a"]}, {"debug": True}, {"labels": ["a"], "debug": True}),
        ({"registry-mirrors": ["x", "a"]}, {"registry-mirrors": ["a", "b"]}, {"registry-mirrors": ["x", "a", "b"]}),
        ({"log-opts": {"a": "1m"}}, {"log-opts": {"b": "3"}}, {"log-opts": {"a": "1m", "b": "3"}}),
        ({"log-driver": "journald"}, {"log-driver": "local"}, {"log-driver": "local"}),
        ({"dns": ["1.1.1.1"]}, {"dns": None}, {"dns": None}),
    ],
    ids=["empty", "others-keys", "lists", "dictionaries", "scalars", "kinds"],
)  # fmt: skip
def test_settings_are_added(there: dict[str, Any], wanted: dict[str, Any], merged: dict[str, Any]) -> None:
    before = json.dumps([there, wanted])
    assert daemon_settings(there, wanted) == merged
    assert json.dumps([there, wanted]) == before
    assert daemon_settings(merged, wanted) == merged, "a second time changes nothing"


@pytest.mark.parametrize("pair", [([], {}), ({}, None), ("{}", {})])
def test_settings_that_are_none_are_refused(pair: tuple[Any, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="two dictionaries are needed"):
        daemon_settings(*pair)


def test_ansible_finds_the_filter_by_its_name() -> None:
    assert FilterModule().filters() == {"daemon_settings": daemon_settings}


# ---------------------------------------------------------------- docker_engine_info


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers like an engine."""

    answers: dict[str, Any] = {}  # noqa: RUF012 (each test's own, see `engine`)

    def do_GET(self) -> None:
        found = self.answers.get(self.path)
        body = json.dumps(found).encode()
        self.send_response(200 if found is not None else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def address_string(self) -> str:
        """Return no name: a Unix socket has none."""
        return ""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """Return the socket of an engine that answers as Docker does."""
    Engine.answers = {"/version": VERSION, "/info": INFO, "/containers/json": RUNNING}
    path = tmp_path / "docker.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Engine) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def test_an_engine_is_described(engine: Path) -> None:
    assert docker_engine.describe(str(engine)) == {
        "pid": os.getpid(),
        "version": "28.3.0",
        "api_version": "1.51",
        "storage_driver": "overlay2",
        "runtimes": ["nvidia", "runc"],
        "registry_mirrors": ["http://mirror.example:5000"],
        "insecure_registries": ["127.0.0.0/8", "registry.example:5000"],
        "live_restore": True,
        "cdi_devices": ["nvidia.com/gpu=0"],
        "containers": [{"name": "somebodys-work", "image": "somebodys:1"}],
    }


def test_an_engine_that_knows_less_is_described_too(engine: Path) -> None:
    Engine.answers |= {"/info": {"Driver": "vfs"}, "/containers/json": []}
    found = docker_engine.describe(str(engine))
    assert (found["runtimes"], found["registry_mirrors"], found["insecure_registries"]) == ([], [], [])
    assert (found["live_restore"], found["cdi_devices"], found["containers"]) == (False, [], [])


def test_an_engine_that_fails_does_not_answer(engine: Path) -> None:
    del Engine.answers["/info"]
    with pytest.raises(docker_engine.EngineError, match="/info answered 500"):
        docker_engine.describe(str(engine))


def test_no_engine_is_no_failure_of_the_module(tmp_path: Path) -> None:
    result = run(docker_engine_info, socket=str(tmp_path / "none.sock"), settings_file=str(tmp_path / "none.json"))
    assert result["engine"] is None
    assert "none.sock: [Errno 2]" in result["engine_error"]
    assert (result["settings"], result["settings_error"], result["changed"]) == ({}, "", False)


def test_the_module_tells_all_that_the_role_decides_by(engine: Path, tmp_path: Path) -> None:
    settings = tmp_path / "daemon.json"
    settings.write_text('{"debug": true}')
    result = run(docker_engine_info, check=True, socket=str(engine), settings_file=str(settings))
    assert result["engine"]["version"] == "28.3.0"
    assert result["settings"] == {"debug": True}
    assert result["user_id"] == os.getuid()
    assert result["has_requests"] is True
    assert result["has_systemd"] is Path("/run/systemd/system").is_dir()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"debug": true,}', "property name enclosed in double quotes"),
        (b'["debug"]', "it holds a list, not an object"),
        (b"\xff\xfe", "can't decode byte"),
    ],
)
def test_settings_that_cannot_be_read_say_why(tmp_path: Path, content: bytes, problem: str) -> None:
    settings = tmp_path / "daemon.json"
    settings.write_bytes(content)
    result = run(docker_engine_info, socket=str(tmp_path / "none.sock"), settings_file=str(settings))
    assert result["settings"] is None
    assert problem in result["settings_error"]


def test_an_empty_settings_file_holds_no_settings(tmp_path: Path) -> None:
    settings = tmp_path / "daemon.json"
    settings.write_text(" \n")
    assert run(docker_engine_info, socket=str(tmp_path / "no"), settings_file=str(settings))["settings"] == {}


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n', "debian-12"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "ubuntu-24.04"),
        ("NAME=Arch\n", "unknown-unknown"),
    ],
)
def test_the_distribution_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, system: str) -> None:
    (tmp_path / "os-release").write_text(text)
    monkeypatch.setattr(docker_engine_info, "_OS_RELEASE", tmp_path / "os-release")
    assert run(docker_engine_info, socket="/nowhere", settings_file="/nowhere")["system"] == system


# ---------------------------------------------------------------- apt's locks

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    free, held = tmp_path / "free", tmp_path / "held"
    free.touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        found = apt_lock.holder([str(tmp_path / "not-there"), str(free), str(held)])
        other.communicate("\n")
    assert found is not None
    assert (found["path"], found["pid"]) == (str(held), other.pid)
    assert found["command"].startswith(f"{sys.executable} -c import fcntl")
    assert apt_lock.holder([str(free), str(held)]) is None, "it was given back"


def test_a_lock_of_ones_own_is_nobody_elses(tmp_path: Path) -> None:
    with (tmp_path / "own").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert apt_lock.holder([str(tmp_path / "own")]) is None
