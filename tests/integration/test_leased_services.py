"""Services on leased ports, with a real supervisord: started, robbed of a port, started again, declared for later."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import Supervisor
from ansible_collections.disagg.e2e.plugins.modules import port_lease, run_clean, service_process, service_ready
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.0.0.43"
SUPERVISORD = str(Path(sys.executable).parent / "supervisord")
# Serves on one port and goes on without the other where it cannot have it, as Dynamo's simulated engine does.
LENIENT = """
import http.server, socket, sys
address, door, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    listener.bind(("", events))
    listener.listen()
except OSError as error:
    print(f"no events on port {events}: {error.strerror}", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer((address, door), Handler).serve_forever()
"""


class Node:
    """A run's folder on a node `one` of this machine."""

    def __init__(self, state: Path) -> None:
        self.state, self.run_id = state, f"leased-{uuid.uuid4().hex[:8]}"
        self.run_dir = state / self.run_id / "one"
        self._given: dict[str, Any] = {"run": self.run_id, "run_dir": str(self.run_dir), "node": "one"}

    def lease(self, **asked: Any) -> dict[str, int]:
        ports: dict[str, int] = run(port_lease, **self._given, names=["door", "events"], **asked)["ports"]
        return ports

    def start(self, ports: dict[str, int], **changes: Any) -> dict[str, Any]:
        # In one line, as supervisor's configuration has it.
        program = f"exec({LENIENT!r})"
        command = [sys.executable, "-c", program, ADDRESS, str(ports["door"]), str(ports["events"])]
        log = str(self.run_dir / "logs" / "service.log")
        given = {**self._given, "supervisord": SUPERVISORD, "name": "service", "command": command, "log": log}
        return run(service_process, **given, leased=ports, stop_grace=2, **changes)

    def ready(self, ports: dict[str, int], **changes: Any) -> dict[str, Any]:
        log = str(self.run_dir / "logs" / "service.log")
        url = f"http://{ADDRESS}:{ports['door']}/"
        service = {"name": "service", "url": url, "log": log, "timeout": 10, "leased": ports}
        return run(service_ready, run_dir=str(self.run_dir), services=[service], **changes)


@pytest.fixture
def node() -> Iterator[Node]:
    """Return a node, with a folder short enough for a socket's path; ends what a test leaves there."""
    state = Path("/tmp") / f"disagg-{uuid.uuid4().hex[:8]}"  # noqa: S108 (a name nobody can guess, made by mkdir)
    state.mkdir(mode=0o700)
    subject = Node(state)
    yield subject
    left = node_state.run_processes(subject.run_id)
    for process in sorted(left, key=lambda found: found["service"] != "supervisord"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)
    assert node_state.wait_gone(subject.run_id, 5.0) == []
    shutil.rmtree(state)


@contextlib.contextmanager
def robbed(port: int) -> Iterator[None]:
    """Have a port that was opened for a service, before the service does: a lost race."""
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("", port))
        thief.listen()
        yield


def test_a_service_is_ready_when_it_listens_on_all_its_leased_ports(node: Node) -> None:
    ports = node.lease()
    assert node.start(ports)["record"]["pid"] > 0
    done = node.ready(ports)
    assert (done.get("failed"), done["taken"]) == (None, [])
    assert "service" in done["ready_at"]
    # Again: nothing changes, and it has its ports.
    assert node.start(ports)["changed"] is False
    cleaned = run(run_clean, run=node.run_id, state_dir=str(node.state), node="one", stop_timeout=5)
    assert cleaned["left"] == []
    for port in ports.values():
        with socket.socket() as free:  # but for connections that the kernel has not forgotten yet
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("", port))


@pytest.mark.parametrize("name", ["door", "events"])
def test_a_port_that_was_lost_in_the_moment_of_the_start_is_another_at_the_next(node: Node, name: str) -> None:
    ports = node.lease(open=[name])
    with robbed(ports[name]):
        node.start(ports)
        told = node.ready(ports, tell_taken=True)
        assert (told.get("failed"), told["taken"]) == (None, [name])
        fresh = node.lease(renew=told["taken"])
        assert fresh[name] != ports[name]
        node.start(fresh)
        assert node.ready(fresh, tell_taken=True)["taken"] == []


def test_a_lost_port_is_a_failure_where_nobody_leases_another(node: Node) -> None:
    ports = node.lease(open=["events"])
    with robbed(ports["events"]):
        node.start(ports)
        failed = node.ready(ports)
    assert failed["failed"]
    assert failed["failure"]["kind"] == "taken"
    assert f"service service taken: another program has port {ports['events']} (events)" in failed["msg"]


def test_a_service_that_is_declared_for_later_is_started_by_its_supervisord(node: Node) -> None:
    ports = node.lease()
    declared = node.start(ports, start=False)
    assert (declared["changed"], declared["record"]["pid"], declared["record"]["started_at"]) == (True, 0, 0.0)
    assert node.start(ports, start=False)["changed"] is False
    Supervisor(str(node.run_dir)).rpc.startProcess("service", False)  # noqa: FBT003 (XML-RPC has no names: wait)
    assert node.ready(ports)["taken"] == []
