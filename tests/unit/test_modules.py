"""The collection's modules, run as Ansible runs them, in this process."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.disagg.e2e.plugins.lookup.tree import LookupModule
from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from ansible_collections.disagg.e2e.plugins.modules import (
    cached_build,
    engine_env,
    node_info,
    run_clean,
    service_process,
    service_ready,
    wheel_file,
    wheel_overlay,
)
from tests.unit.builders import write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.0.0.42"
SUPERVISORD = str(Path(sys.executable).parent / "supervisord")
IDLE = [sys.executable, "-c", "import signal; print('last words', flush=True); signal.pause()"]


def run(module: ModuleType, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a module. Returns its result, `failed` included."""
    told = io.StringIO()
    given = {**arguments, "_ansible_check_mode": check}
    with patch_module_args(given), contextlib.redirect_stdout(told), pytest.raises(SystemExit):
        module.main()
    result = json.loads(told.getvalue())
    assert isinstance(result, dict)
    return result


# ---------------------------------------------------------------- node_info


def test_node_info_tells_what_a_node_has(tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as listening:
        port = listening.getsockname()[1]
        result = run(
            node_info,
            address=ADDRESS,
            ports=[port],
            libraries=["libc.so.6", "libnothing-of-the-kind.so.9"],
            path=str(tmp_path / "not" / "yet"),
        )
    assert result["listeners"][0]["process"]["pid"] == os.getpid()
    assert result["missing_libraries"] == ["libnothing-of-the-kind.so.9"]
    assert result["free_bytes"] > 0
    assert result["memory_available_bytes"] > 0
    assert result["is_local_address"] is True
    assert (result["user_id"], result["changed"]) == (os.getuid(), False)


@pytest.mark.parametrize("address", ["192.0.2.1", "no such name"])
def test_node_info_knows_an_address_that_is_not_the_nodes(address: str) -> None:
    assert run(node_info, address=address, path="/")["is_local_address"] is False


# ---------------------------------------------------------------- cached_build


def build(folder: Path, code: str, result: str | None = "out.json", **changes: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", code, "{out}"]
    one = {"name": "thing", "key": ["a", 1], "command": command, "result": result}
    return run(cached_build, cache_dir=str(folder), builds=[{**one, **changes}], environment={"GREETING": "hello"})


WRITE = "import os, sys; open(sys.argv[1] + '/out.json', 'w').write('{\"said\": \"%s\"}' % os.environ['GREETING'])"


def test_a_build_is_made_once(tmp_path: Path) -> None:
    first = build(tmp_path, WRITE)
    assert first["changed"] is True
    (made,) = first["builds"]
    assert made["result"] == {"said": "hello"}
    assert Path(made["directory"]).name == f"thing-{made['key']}"
    second = build(tmp_path, "raise SystemExit(1)")
    assert second["changed"] is False
    assert second["builds"] == [{**made, "made": False}]
    assert build(tmp_path, WRITE, key="other")["changed"] is True


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('no weights')", "thing: exit status 1 of"),
        ("raise SystemExit('no weights')", "no weights"),
        ("pass", "thing: the command ended well without writing out.json"),
    ],
)
def test_a_build_that_fails_is_told_and_leaves_nothing(tmp_path: Path, code: str, said: str) -> None:
    result = build(tmp_path, code)
    assert result["failed"] is True
    assert said in result["msg"]
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_a_build_whose_program_is_not_there(tmp_path: Path) -> None:
    result = build(tmp_path, "", command=["/no/such/program", "x"])
    assert result["failed"] is True
    assert "No such file or directory: '/no/such/program'" in result["msg"]


# ---------------------------------------------------------------- wheel_file, wheel_overlay


def test_a_wheel_file_is_taken_as_it_is(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b""}, version="2.0")
    result = run(wheel_file, source=str(wheel), package="demo", cache_dir=str(tmp_path / "cache"))
    assert (result["file"], result["version"], result["source"]) == (str(wheel), "2.0", "file")
    assert result["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert result["changed"] is False


@pytest.mark.parametrize("content", [None, b"text", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_wheel_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.whl"
    if content is not None:
        path.write_bytes(content)
    result = run(wheel_file, source=str(path), package="demo", cache_dir=str(tmp_path))
    assert result["failed"] is True
    assert "broken.whl is not a wheel (" in result["msg"]


def test_a_version_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b""})
    asked: list[str] = []

    def pip(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel_file, "subprocess", SimpleNamespace(run=pip, TimeoutExpired=subprocess.TimeoutExpired))
    first, second = (run(wheel_file, source="1.0", package="demo", cache_dir=str(tmp_path / "c")) for _twice in "ab")
    assert asked == ["demo==1.0"]
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["source"] == "index"
    assert first["file"] == second["file"]


def test_a_version_that_is_not_to_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution\nERROR: y\n")

    monkeypatch.setattr(wheel_file, "subprocess", SimpleNamespace(run=pip, TimeoutExpired=subprocess.TimeoutExpired))
    result = run(wheel_file, source="9.9", package="demo", cache_dir=str(tmp_path))
    assert result["msg"] == "no demo==9.9 to be had: ERROR: No matching distribution"


def test_a_wheel_is_unpacked_once_beside_the_environment(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b"WHO = 'the wheel'\n"})
    given: dict[str, Any] = {
        "file": str(wheel),
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "python": sys.executable,
        "cache_dir": str(tmp_path / "cache"),
    }
    first = run(wheel_overlay, **given)
    assert first["changed"] is True
    assert (Path(first["directory"]) / "demo" / "__init__.py").read_text() == "WHO = 'the wheel'\n"
    assert run(wheel_overlay, **given) == {**first, "changed": False}


def test_a_wheel_that_changed_on_its_way_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b""})
    result = run(wheel_overlay, file=str(wheel), sha256="0" * 64, python=sys.executable, cache_dir=str(tmp_path / "c"))
    assert result["failed"] is True
    assert "it was changed on its way to this node" in result["msg"]


# ---------------------------------------------------------------- engine_env


def test_an_environment_that_is_not_there_is_a_change_in_check_mode(tmp_path: Path) -> None:
    given: dict[str, Any] = {"name": "tools", "requirements": "six==1.17.0", "cache_dir": str(tmp_path)}
    assert run(engine_env, check=True, **given)["changed"] is True
    assert list(tmp_path.iterdir()) == []


def steps(monkeypatch: pytest.MonkeyPatch, *failing: str, pip_config: str = "") -> list[list[str]]:
    """Let the steps of a build be noted only; those with one of the words in them fail."""
    done: list[list[str]] = []

    def step(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        done.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        status = int(any(word in command for word in failing))
        return subprocess.CompletedProcess(command, status, pip_config if "config" in command else "", "it broke\n")

    monkeypatch.setattr(engine_env, "subprocess", SimpleNamespace(run=step, TimeoutExpired=subprocess.TimeoutExpired))
    return done


def test_an_environment_is_built_once_and_its_path_follows_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = steps(monkeypatch)
    given: dict[str, Any] = {"name": "tools", "requirements": "six==1.17.0\n", "cache_dir": str(tmp_path)}
    first = run(engine_env, **given, path_files={"a/b.py": "x = 1\n"})
    assert first["changed"] is True
    assert Path(first["python"]) == Path(first["directory"]) / "bin" / "python"
    assert (Path(first["path_dir"]) / "a" / "b.py").read_text() == "x = 1\n"
    (install,) = (command for command in done if "install" in command)
    assert "--no-deps" in install
    assert "--extra-index-url" not in install
    count = len(done)
    assert run(engine_env, **given, path_files={"a/b.py": "x = 1\n"})["changed"] is False
    assert run(engine_env, **given)["path_dir"] == ""
    other = run(engine_env, **given, path_files={"a/b.py": "x = 2\n"})
    assert (other["changed"], other["directory"]) == (True, first["directory"])
    assert other["path_dir"] != first["path_dir"]
    assert len(done) == count, "other files for the path do not build the environment anew"


def test_an_environment_that_cannot_be_built_is_told_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"name": "tools", "requirements": "six==0\n", "cache_dir": str(tmp_path)}
    steps(monkeypatch, "install")
    result = run(engine_env, **given)
    assert result["failed"] is True
    assert result["msg"].startswith(f"environment tools in {tmp_path}/tools-")
    assert "it broke" in result["msg"]
    steps(monkeypatch)
    assert run(engine_env, **given)["changed"] is True


@pytest.mark.parametrize(("dry_run_fails", "extra"), [(True, True), (False, False)])
def test_the_extra_index_is_asked_only_for_what_others_lack(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dry_run_fails: bool,  # noqa: FBT001 (a table's column)
    extra: bool,  # noqa: FBT001
) -> None:
    done = steps(monkeypatch, *(["--dry-run"] if dry_run_fails else []))
    index = {"extra_index_url": "https://index.invalid/simple", "extra_index_for": "torch==2.0+cpu"}
    given: dict[str, Any] = {"name": "tools", "cache_dir": str(tmp_path), **index}
    run(engine_env, **given, requirements="six==1\ntorch==2.0+cpu\n")
    assert ("--extra-index-url" in done[-2]) is extra
    run(engine_env, **given, requirements="six==1\n")
    assert "--extra-index-url" not in done[-2]


def test_uv_is_given_pips_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "global.index-url='https://one.invalid/simple'\nglobal.extra-index-url='\\nhttps://two.invalid/s'\n"
    done = steps(monkeypatch, pip_config=config + "global.timeout='60'\n")
    run(engine_env, name="tools", requirements="six==1\n", cache_dir=str(tmp_path), uv=sys.executable)
    (install,) = (command for command in done if command[:2] == [sys.executable, "pip"])
    assert install[install.index("--default-index") + 1] == "https://one.invalid/simple"
    assert install[install.index("--index") + 1] == "https://two.invalid/s"
    assert install[install.index("--index-strategy") + 1] == "unsafe-best-match"
    assert "60" not in install


# ---------------------------------------------------------------- service_process, service_ready, run_clean


class Deployed:
    """A run's folder on a node `one` of this machine, with supervisord as it comes up."""

    def __init__(self, state: Path) -> None:
        self.state, self.run_id = state, f"unit-{uuid.uuid4().hex[:8]}"
        self.run_dir = state / self.run_id / "one"

    def start(self, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        log = str(self.run_dir / "logs" / "decode.log")
        given: dict[str, Any] = {"run": self.run_id, "run_dir": str(self.run_dir), "node": "one"}
        given |= {"supervisord": SUPERVISORD}
        given |= {"name": "decode", "command": IDLE, "log": log, "stop_grace": 2, "environment": {"A": '50% "x" # y'}}
        return run(service_process, check=check, **{**given, **changes})

    def up(self) -> dict[str, Any]:
        """Start the service and wait until its program runs: until then it is a fork of supervisord."""
        result = self.start()
        log = self.run_dir / "logs" / "decode.log"
        deadline = time.monotonic() + 10
        while not (log.exists() and log.read_text()):
            assert time.monotonic() < deadline, f"nothing in {log} after 10 s"
            time.sleep(0.01)  # the poll interval
        return result

    def ready(self, url: str, **changes: Any) -> dict[str, Any]:
        log = str(self.run_dir / "logs" / "decode.log")
        service = {"name": "decode", "url": url, "log": log, "timeout": 5, "hang": 0.2, **changes}
        return run(service_ready, run_dir=str(self.run_dir), services=[service])

    def clean(self, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"run": self.run_id, "state_dir": str(self.state), "node": "one", "stop_timeout": 5}
        return run(run_clean, check=check, **{**given, **changes})


@pytest.fixture
def deployed() -> Iterator[Deployed]:
    """Return a run's folder, short enough for a socket's path; ends whatever a test leaves of the run."""
    state = Path("/tmp") / f"disagg-{uuid.uuid4().hex[:8]}"  # noqa: S108 (a name nobody can guess, made by mkdir)
    state.mkdir(mode=0o700)
    subject = Deployed(state)
    yield subject
    left = subject.clean()["left"]
    shutil.rmtree(state)
    assert left == []


class _Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Return the address of a server that answers 200."""
    with http.server.ThreadingHTTPServer((ADDRESS, 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://{ADDRESS}:{server.server_port}/health"
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> Iterator[str]:
    """Return an address where nobody listens."""
    with socket.socket() as bound:
        bound.bind((ADDRESS, 0))
        yield f"http://{ADDRESS}:{bound.getsockname()[1]}/health"


def test_a_services_life(deployed: Deployed, url: str, tmp_path: Path) -> None:
    assert deployed.start(check=True)["changed"] is True
    assert not deployed.run_dir.exists(), "check mode starts nothing"

    first = deployed.up()
    assert first["changed"] is True
    found = node_state.process(first["pid"])
    assert found is not None
    assert (found["run"], found["node"], found["service"]) == (deployed.run_id, "one", "decode")
    assert found["started_at"] == pytest.approx(first["started_at"], abs=0.01)
    environment = node_state.environment(first["pid"])
    assert environment["A"] == '50% "x" # y'
    assert not {"HF_TOKEN", "PYTEST_CURRENT_TEST"} & set(environment), "the caller's variables stay the caller's"

    assert deployed.start() == {**first, "changed": False}, "the same again is left alone"
    ready = deployed.ready(url)
    assert ready["ready_at"]["decode"] > first["started_at"]

    second = deployed.start(environment={"A": "other"})
    assert second["changed"] is True
    assert second["pid"] != first["pid"]
    assert node_state.process(first["pid"]) is None

    archive = tmp_path / "logs" / "one.tar.gz"
    assert deployed.clean(check=True)["changed"] is True
    ended = deployed.clean(archive=str(archive))
    assert (ended["changed"], ended["runs"], ended["left"]) == (True, [deployed.run_id], [])
    assert ended["archive"] == str(archive)
    assert archive.is_file()
    assert node_state.run_processes(deployed.run_id) == []
    assert not deployed.run_dir.parent.exists()
    again = deployed.clean()
    assert (again["changed"], again["runs"]) == (False, [])


def test_a_service_that_dies_is_told_with_its_last_words(deployed: Deployed, nobody: str) -> None:
    deployed.start(command=[sys.executable, "-c", "print('last words'); raise SystemExit(3)"])
    result = deployed.ready(nobody)
    assert result["failed"] is True
    assert result["failure"]["kind"] == "died"
    assert result["failure"]["detail"].startswith("exit status 3, ")
    assert result["failure"]["tail"] == ["last words"]


def test_a_service_that_was_killed_is_told(deployed: Deployed, nobody: str) -> None:
    os.kill(deployed.up()["pid"], 9)
    assert deployed.ready(nobody)["failure"]["detail"].startswith("killed by a signal, ")


def test_a_service_whose_program_is_not_there_is_told(deployed: Deployed, nobody: str) -> None:
    deployed.start(command=["/no/such/program"])
    result = deployed.ready(nobody)
    assert result["failure"]["kind"] == "died"
    assert "/no/such/program" in result["failure"]["detail"]


def test_a_service_that_hangs_or_comes_late_is_told(
    deployed: Deployed, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.up()
    with socket.create_server((ADDRESS, 0)) as silent:
        hung = deployed.ready(f"http://{ADDRESS}:{silent.getsockname()[1]}/")
    assert hung["failure"]["kind"] == "hung"
    assert hung["failure"]["tail"] == ["last words"]
    late = deployed.ready(nobody, timeout=0.2)
    assert late["failure"]["kind"] == "late"
    assert "refused" in late["failure"]["detail"]
    monkeypatch.setattr(_Handler, "status", 503)
    with http.server.HTTPServer((ADDRESS, 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        starting = deployed.ready(f"http://{ADDRESS}:{server.server_port}/", timeout=0.3)
        server.shutdown()
    assert starting["failure"]["detail"].endswith("last gave: HTTP 503")


def test_a_service_without_its_supervisord_is_told(deployed: Deployed, nobody: str) -> None:
    result = deployed.ready(nobody)
    assert (result["failure"]["kind"], result["failure"]["detail"]) == ("died", "its supervisord is gone")


def test_what_supervisor_cannot_take_is_told(deployed: Deployed) -> None:
    result = deployed.start(environment={"TOKEN": "two\nlines"})
    assert result["failed"] is True
    assert "environment variable TOKEN: supervisor cannot take" in result["msg"]


def test_a_folder_too_long_for_a_socket_is_told(deployed: Deployed) -> None:
    result = deployed.start(run_dir=str(deployed.run_dir / ("x" * 100)))
    assert result["failed"] is True
    assert "set disagg_state_dir in the inventory to a shorter directory" in result["msg"]


def test_a_node_without_supervisor_is_told(deployed: Deployed) -> None:
    result = deployed.start(supervisord="/no/such/supervisord")
    assert "is supervisor installed on this node?" in result["msg"]


def test_a_run_whose_supervisord_was_killed_is_cleaned_too(deployed: Deployed) -> None:
    started = deployed.up()
    (daemon,) = node_state.run_processes(deployed.run_id, service="supervisord")
    os.kill(daemon["pid"], 9)
    ended = deployed.clean(run="all")
    assert deployed.run_id in ended["runs"]
    assert [entry["pid"] for entry in ended["killed"]] == [started["pid"]]
    assert ended["left"] == []


# ---------------------------------------------------------------- lookup


def test_a_tree_is_its_text_files(tmp_path: Path) -> None:
    for name in ("a.py", "b/c.txt", "b/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = LookupModule().run([str(tmp_path), str(tmp_path / "none")])
    assert found == [{"a.py": "a.py", "b/c.txt": "b/c.txt"}, {}]
