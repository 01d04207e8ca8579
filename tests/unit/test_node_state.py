"""What runs on a machine, against real processes, sockets and libraries of the test."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.0.0.42"
# Says what it was asked to say once it is up, and lives until its standard input ends.
IDLE = "import sys; print('up', flush=True); sys.stdin.read()"
# The same with a child in a session of its own, whose process id it says.
PARENT = (
    "import subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {IDLE!r}], stdin=0, stdout=-1, start_new_session=True)\n"
    "child.stdout.readline()\n"
    "print(child.pid, flush=True)\n"
    "child.wait()\n"
)


class Program:
    """A running program of the test's, with the line that it said when it was up."""

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "marker argument"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()
        self.pid = self.process.pid

    def end(self) -> None:
        """End it, with its children: they share its standard input."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def run() -> str:
    """Return a run id that no other process has."""
    return f"unit-{uuid.uuid4().hex}"


@pytest.fixture
def start(run: str) -> Iterator[Callable[..., Program]]:
    """Return a function that starts a program of the run."""
    with contextlib.ExitStack() as programs:

        def starting(code: str = IDLE, node: str | None = "one", service: str = "decode") -> Program:
            marks = {node_state.RUN_VARIABLE: run, node_state.SERVICE_VARIABLE: service}
            program = Program(code, {**marks, **({node_state.NODE_VARIABLE: node} if node else {})})
            programs.callback(program.end)
            return program

        yield starting


def pids(found: list[dict[str, Any]]) -> set[int]:
    return {entry["pid"] for entry in found}


def test_a_process_is_described(start: Callable[..., Program], run: str) -> None:
    earlier = time.time()
    program = start()
    found = node_state.process(program.pid)
    assert found is not None
    assert (found["pid"], found["ppid"]) == (program.pid, os.getpid())
    assert (found["run"], found["node"], found["service"]) == (run, "one", "decode")
    assert found["command"].startswith(f"{sys.executable} -c import sys;")
    assert found["command"].endswith("marker argument")
    # Its start is exact to a tick, and the boot time that it counts from to a second.
    assert abs(found["started_at"] - earlier) < 3


def test_a_process_that_is_not_there_is_none() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert node_state.process(ended.pid) is None
    assert node_state.environment(ended.pid) == {}
    assert node_state.socket_inodes(ended.pid) == set()


def test_a_name_with_parentheses_and_spaces_is_survived(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to(shutil.which("cat") or "/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as running:
        found = node_state.process(running.pid)
        assert found is not None
        assert found["ppid"] == os.getpid()


def test_a_runs_processes_are_found_by_their_mark(start: Callable[..., Program], run: str) -> None:
    programs = [start(), start(node="two"), start(node=None), start(service="router")]
    one, two, nowhere, router = (program.pid for program in programs)
    assert pids(node_state.run_processes(run)) == {one, two, nowhere, router}
    assert pids(node_state.run_processes(run, "one")) == {one, nowhere, router}
    assert pids(node_state.run_processes(run, "two")) == {two, nowhere}
    assert pids(node_state.run_processes(run, service="router")) == {router}
    assert pids(node_state.run_processes(f"{run}x")) == set()
    assert {one, two} <= pids(node_state.run_processes())


def test_a_child_in_another_session_belongs_to_the_run(start: Callable[..., Program], run: str) -> None:
    parent = start(PARENT)
    child = int(parent.said)
    assert os.getsid(child) != os.getsid(parent.pid)
    assert pids(node_state.run_processes(run)) == {parent.pid, child}
    assert node_state.tree(parent.pid) == [parent.pid, child]


def test_a_zombie_is_not_alive(start: Callable[..., Program], run: str) -> None:
    program = start()
    assert program.process.stdin is not None
    program.process.stdin.close()
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    found = node_state.process(program.pid)
    assert found is not None
    assert found["state"] == "Z"
    assert node_state.run_processes(run) == []


def test_the_caller_and_its_ancestors_are_spared(run: str) -> None:
    """Teardown must not end the very program that it is run by, which may carry the mark too."""
    code = (
        "from ansible_collections.disagg.e2e.plugins.module_utils import node_state\n"
        f"print(len(node_state.run_processes({run!r})))"
    )
    outer = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {code!r}]))"
    environment = {**os.environ, node_state.RUN_VARIABLE: run, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", outer], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_its_own_line_goes_up_to_the_first_process() -> None:
    assert {os.getpid(), os.getppid()} <= node_state.own_line() | {1}


def test_waiting_until_a_run_is_gone(start: Callable[..., Program], run: str) -> None:
    program = start()
    assert pids(node_state.wait_gone(run, 0.0)) == {program.pid}
    program.end()
    assert node_state.wait_gone(run, 10.0) == []


def test_a_listening_socket_has_its_owner() -> None:
    with socket.create_server((ADDRESS, 0)) as listening:
        port = listening.getsockname()[1]
        (found,) = node_state.listeners(ADDRESS, [port])
        assert (found["port"], found["address"]) == (port, ADDRESS)
        assert found["process"]["pid"] == os.getpid()
        assert node_state.listeners("127.0.0.40", [port]) == [], "another node on this machine"
        assert node_state.listeners(ADDRESS, [port + 1]) == []
    assert node_state.listeners(ADDRESS, [port]) == []


@pytest.mark.parametrize(("family", "bound"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_a_socket_on_all_addresses_bars_each(family: socket.AddressFamily, bound: str) -> None:
    with socket.create_server((bound, 0), family=family) as listening:
        (found,) = node_state.listeners(ADDRESS, [listening.getsockname()[1]])
        assert found["address"] == bound


def test_the_owner_is_who_bound_it_not_who_inherited_it() -> None:
    with socket.create_server((ADDRESS, 0)) as listening:
        os.set_inheritable(listening.fileno(), True)  # noqa: FBT003 (the system's call has no names)
        with subprocess.Popen([sys.executable, "-c", IDLE], stdin=-1, stdout=-1, close_fds=False) as child:
            assert child.stdout is not None
            child.stdout.readline()
            (found,) = node_state.listeners(ADDRESS, [listening.getsockname()[1]])
            child.communicate()
    assert found["process"]["pid"] == min(os.getpid(), child.pid)


def test_sockets_of_other_states_are_found_by_them() -> None:
    with socket.create_server((ADDRESS, 0)) as listening, socket.create_connection(listening.getsockname()) as client:
        address, port = client.getsockname()
        established = [found for found in node_state.tcp_sockets(("01",)) if found["port"] == port]
        ends = [(found["address"], found["remote_address"], found["remote_port"]) for found in established]
        assert ends == [(address, *listening.getsockname())]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00002A00007F", "127.0.0.42"),
    ],
)
@pytest.mark.skipif(sys.byteorder == "big", reason="the examples are a little-endian kernel's")
def test_the_kernels_addresses_are_read(text: str, address: str) -> None:
    assert node_state._address(text) == address


def test_a_mapped_library_has_path_and_digest(tmp_path: Path) -> None:
    library = tmp_path / "mooncake" / "engine.so"
    library.parent.mkdir()
    shutil.copy(_a_library(), library)
    loaded = ctypes.CDLL(str(library))
    (found,) = node_state.loaded_files([os.getpid()], r"/mooncake[^/]*/[^/]+\.so")
    assert found == {
        "path": str(library),
        "pids": [os.getpid()],
        "deleted": False,
        "sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
    }
    library.unlink()
    (gone,) = node_state.loaded_files([os.getpid()], r"/mooncake[^/]*/[^/]+\.so")
    assert (gone["deleted"], gone["sha256"]) == (True, None)
    del loaded


def _a_library() -> str:
    """Return a small shared library that is loaded already, so that a copy of it loads as well."""
    found = node_state.loaded_files([os.getpid()], r"/[^/]+\.so(\.\d+)*$")
    return str(min((entry["path"] for entry in found), key=lambda path: Path(path).stat().st_size))


def test_a_library_that_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    assert node_state.sha256_of(str(tmp_path / "none")) is None


def test_the_machine_has_a_name() -> None:
    assert node_state.host_name() == socket.gethostname()


def test_a_process_that_has_ended_is_not_alive_even_before_its_parent_takes_note() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert node_state.is_alive(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not node_state.is_alive(child.pid)
    assert not node_state.is_alive(child.pid)
