"""The simulator as a process: how it starts, what it puts on the wire, how it ends.

Only the role ``single``, which needs neither Mooncake nor a router.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from pyharness.simulator.model import write_model
from pyharness.simulator.server import READY_LINE

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.simulator]

HOST: Final = "127.0.0.1"
DEADLINE: Final = 30
"""Seconds after which something that should happen at once is taken for broken."""
ROOT: Final = Path(__file__).parents[2]


class Server:
    """A simulator in a process of its own, with its output."""

    def __init__(self, model: Path, port: int, *misbehave: str, role: str = "single") -> None:
        """Start it; `wait_ready` waits for it."""
        command = [sys.executable, "-m", "pyharness.simulator", "serve", "--role", role, "--host", HOST]
        command += ["--port", str(port), "--model-path", str(model), "--served-model-name", "tiny"]
        for key in misbehave:
            command += ["--misbehave", key]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.port = port
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_ready(self) -> "Server":
        """Read the log up to the readiness line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if READY_LINE in line:
                return self
        pytest.fail(f"it ended before it was ready: {''.join(self.lines)}")

    def wait_end(self) -> tuple[int, str]:
        """Wait until it ends; return its exit code and its log."""
        rest, _ = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, "".join(self.lines) + rest

    def post(self, body: dict[str, object], timeout: float = DEADLINE) -> tuple[int, bytes]:
        """Post to ``/generate``."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("POST", "/generate", json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str, timeout: float = DEADLINE) -> int:
        """Give the status of a GET."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()


Start = Callable[..., Server]
PROMPT: Final[dict[str, object]] = {"text": "hello", "sampling_params": {"max_new_tokens": 8}}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers on a free port; end what is still alive."""
    write_model("qwen3", 0, tmp_path / "model")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    servers: list[Server] = []

    def begin(*misbehave: str, role: str = "single") -> Server:
        servers.append(Server(tmp_path / "model", port, *misbehave, role=role))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_even_amid_a_stuck_request(start: Start, number: signal.Signals) -> None:
    server = start("hang-on-request").wait_ready()
    with pytest.raises(TimeoutError):
        server.post(PROMPT, timeout=0.5)
    server.process.send_signal(number)
    code, log = server.wait_end()
    assert code == 0, log
    assert f"ending: {number.name}" in log


def test_it_listens_when_it_says_so_and_answers(start: Start) -> None:
    server = start().wait_ready()
    status, body = server.post(PROMPT)
    assert status == 200
    assert len(json.loads(body)["text"].split()) == 8


def test_a_taken_port_ends_it_with_one_clear_line(start: Start) -> None:
    stale = start().wait_ready()
    code, log = start().wait_end()
    assert code == 1
    assert f"cannot start: listening on {HOST} port {stale.port} failed" in log
    assert READY_LINE not in log


def test_a_disaggregated_role_without_mooncake_ends_with_one_clear_line(start: Start) -> None:
    code, log = start(role="decode").wait_end()
    assert code == 1
    assert "cannot start: Mooncake cannot be imported" in log.splitlines()[-1]


def test_death_before_readiness_ends_in_a_traceback(start: Start) -> None:
    code, log = start("die-before-ready").wait_end()
    assert code == 1
    assert "Traceback (most recent call last)" in log
    assert log.splitlines()[-1] == "RuntimeError: simulated failure before readiness"


def test_ready_but_dead_says_ready_and_ends(start: Start) -> None:
    code, log = start("ready-but-dead").wait_ready().wait_end()
    assert code == 1, log


def test_exit_after_start_ends_with_1(start: Start) -> None:
    code, log = start("exit-after-start=0.2").wait_ready().wait_end()
    assert code == 1
    assert "ending: exit-after-start=0.2" in log


def test_die_on_request_dies_of_sigkill(start: Start) -> None:
    server = start("die-on-request").wait_ready()
    assert server.get("/health") == 200
    with pytest.raises(ConnectionError):
        server.post(PROMPT)
    assert server.wait_end()[0] == -signal.SIGKILL


def test_die_after_ready_answers_first(start: Start) -> None:
    server = start("die-after-ready=2").wait_ready()
    assert [server.post(PROMPT)[0] for _ in range(2)] == [200, 200]
    assert server.wait_end()[0] == -signal.SIGKILL


def test_a_hanging_health_does_not_stop_inference(start: Start) -> None:
    server = start("health-hangs").wait_ready()
    with pytest.raises(TimeoutError):
        server.get("/health", timeout=0.5)
    assert server.get("/model_info") == 200
    assert server.post(PROMPT)[0] == 200


def test_ignore_sigterm_goes_on_serving(start: Start) -> None:
    server = start("ignore-sigterm").wait_ready()
    for number in (signal.SIGTERM, signal.SIGINT):
        server.process.send_signal(number)
    assert server.post(PROMPT)[0] == 200
    assert server.process.poll() is None


def test_the_left_child_outlives_the_server_and_sigterm(start: Start) -> None:
    server = start("leave-child").wait_ready()
    (line,) = (line for line in server.lines if "left child: pid" in line)
    child = int(line.rsplit(maxsplit=1)[-1])
    try:
        server.process.terminate()
        assert server.wait_end()[0] == 0
        os.kill(child, signal.SIGTERM)
        command = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        assert "pyharness-simulator-left-child" in command
        assert os.getsid(child) == child
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_truncated_stream_breaks_off_without_its_end(start: Start) -> None:
    server = start("truncated-stream").wait_ready()
    with pytest.raises(http.client.IncompleteRead) as caught:
        server.post(PROMPT | {"stream": True})
    assert caught.value.partial.count(b"data: ") == 4
    assert b"[DONE]" not in caught.value.partial


def test_a_stream_ends_with_done(start: Start) -> None:
    status, body = start().wait_ready().post(PROMPT | {"stream": True})
    assert status == 200
    assert body.count(b"data: ") == 9
    assert body.endswith(b"data: [DONE]\n\n")


def test_the_routers_http2_probe_is_turned_down(start: Start) -> None:
    server = start().wait_ready()
    with socket.create_connection((HOST, server.port), timeout=DEADLINE) as probe:
        probe.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert probe.recv(100).startswith(b"HTTP/1.1 400")
    assert server.get("/health") == 200
