"""Prefill and decode of the simulator behind the real router, joined by the real Mooncake."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pyharness.simulator import text
from pyharness.simulator.model import ARCHITECTURES, Model, write_model

if TYPE_CHECKING:
    from tests.integration.conftest import Environment

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.simulator]

ROOT: Final = Path(__file__).parents[2]
PREFILL: Final = "127.0.0.31"
DECODE: Final = "127.0.0.32"
PROMPT: Final = "hello, world!"
DEADLINE: Final = 30
BODY: Final[dict[str, Any]] = {"text": PROMPT, "sampling_params": {"temperature": 0, "max_new_tokens": 24}}
HEADER_BYTES: Final = 24
"""What Mooncake 0.3.13's TCP transport sends ahead of each transfer (measured)."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind((PREFILL, 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


def call(host: str, port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@dataclass
class Deployment:
    """One prefill, one decode and the router, all up."""

    model: Model
    port: int
    router_port: int
    prefill_pid: int
    logs: Path

    def generate(self, **extra: Any) -> tuple[int, bytes]:
        return call(PREFILL, self.router_port, "/generate", BODY | extra)

    def counter(self, host: str, name: str, label: str = "") -> float:
        lines = call(host, self.port, "/metrics")[1].decode().splitlines()
        mine = [line for line in lines if line.startswith(name + "{") and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in mine)

    def wire_bytes(self) -> int:
        """Bytes that decode acknowledged on connections that prefill's process opened to it."""
        tool = shutil.which("ss")
        assert tool is not None, "ss (Debian: iproute2) is needed to see the bytes between the processes"
        command = [tool, "-tinpHO", "state", "established", "dst", DECODE]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        mine = [line for line in lines if f"pid={self.prefill_pid}," in line]
        # TCP counts the opening SYN as one acknowledged byte.
        return sum(int(found[1]) - 1 for line in mine if (found := re.search(r"bytes_acked:(\d+)", line)))

    @property
    def right_text(self) -> str:
        return text.decode(text.answer_ids(self.model.prefill(text.encode(PROMPT)), 24))

    @property
    def kv_bytes(self) -> int:
        return self.model.kv_bytes(len(PROMPT))


Deploy = Callable[..., Deployment]


def wait_ready(router: int, processes: Sequence[subprocess.Popen[bytes]], logs: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    seen: object = None
    while time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes), f"a process ended; see {logs}"
        try:
            seen = status, body = call(PREFILL, router, "/readiness")
            if status == http.client.OK and json.loads(body)["healthy_workers"] == 2:
                return
        except OSError as error:
            seen = error
        time.sleep(0.05)
    pytest.fail(f"the router was not ready within {DEADLINE} s; last seen: {seen!r}; logs in {logs}")


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def deploy(tmp_path: Path, simulator_environment: Environment) -> Iterator[Deploy]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, arguments: Sequence[str]) -> int:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{simulator_environment.overlay}"}
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [str(simulator_environment.python), "-m", *arguments]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return processes[-1].pid

    def begin(
        architecture: str = "qwen3",
        prefill: Sequence[str] = (),
        decode: Sequence[str] = (),
        transport: str = "tcp",
    ) -> Deployment:
        folder = tmp_path / "model"
        write_model(architecture, 0, folder)
        port, bootstrap, router, metrics = free_ports(4)
        common = ["--model-path", str(folder), "--served-model-name", "tiny", "--port", str(port)]
        common += ["--bootstrap-port", str(bootstrap), "--transport", transport]
        pids = []
        for role, host, keys in (("prefill", PREFILL, prefill), ("decode", DECODE, decode)):
            misbehave = [word for key in keys for word in ("--misbehave", key)]
            serve = ["pyharness.simulator", "serve", "--role", role, "--host", host]
            pids.append(start(role, [*serve, *common, *misbehave]))
        launch = [
            "sglang_router.launch_router",
            "--pd-disaggregation",
            "--host",
            PREFILL,
            "--port",
            str(router),
        ]
        launch += [
            "--prefill",
            f"http://{PREFILL}:{port}",
            str(bootstrap),
            "--decode",
            f"http://{DECODE}:{port}",
        ]
        start("router", [*launch, "--prometheus-port", str(metrics), "--health-check-interval-secs", "3"])
        wait_ready(router, processes, tmp_path)
        return Deployment(Model.load(str(folder)), port, router, pids[0], tmp_path)

    yield begin
    for process in processes:
        process.terminate()
    for process in processes:
        end(process)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kv_cache_travels_byte_for_byte(deploy: Deploy, architecture: str) -> None:
    deployment = deploy(architecture)
    before = deployment.wire_bytes()
    status, body = deployment.generate()
    assert status == 200, body
    assert json.loads(body)["text"] == deployment.right_text
    counted = deployment.counter(PREFILL, "sglang:kv_transfer_total_mb_sum") * 2**20
    assert counted == deployment.kv_bytes
    assert deployment.wire_bytes() - before == deployment.kv_bytes + HEADER_BYTES
    assert deployment.counter(DECODE, "sglang:prefill_effective_tokens_total") == 0
    assert deployment.counter(PREFILL, "sglang:prefill_effective_tokens_total", 'mode="input"') >= len(PROMPT)


def test_every_endpoint_answers_through_the_router_in_one_piece_and_in_many(deploy: Deploy) -> None:
    deployment = deploy()
    port = deployment.router_port
    words = deployment.right_text.split()[:6]
    completion = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6}
    chat = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 6}
    _, whole = call(PREFILL, port, "/v1/completions", completion)
    assert json.loads(whole)["choices"][0]["text"].split() == words
    _, streamed = call(PREFILL, port, "/v1/completions", completion | {"stream": True})
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith(b"data: {")]
    assert "".join(event["choices"][0]["text"] for event in events).split() == words
    _, whole = call(PREFILL, port, "/v1/chat/completions", chat)
    said = json.loads(whole)["choices"][0]["message"]["content"]
    assert len(said.split()) == 6
    _, streamed = call(PREFILL, port, "/v1/chat/completions", chat | {"stream": True})
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith(b"data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == said
    assert streamed.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("prefill", "decode", "right", "counted_part", "wire_part"),
    [
        ([], ["recompute"], True, 0, 0),
        ([], ["no-transfer-but-lies"], True, 0, 0),
        (["no-transfer-but-lies"], [], False, 1, 0),
        (["no-transfer-but-lies"], ["no-transfer-but-lies"], True, 1, 0),
        (["short-transfer"], ["short-transfer"], True, 1, 0.5),
    ],
)
def test_lies_about_the_transfer_show_on_the_wire(
    deploy: Deploy,
    prefill: list[str],
    decode: list[str],
    right: bool,  # noqa: FBT001 -- a column of the table
    counted_part: float,
    wire_part: float,
) -> None:
    deployment = deploy(prefill=prefill, decode=decode)
    status, body = deployment.generate()
    assert status == 200, body
    assert (json.loads(body)["text"] == deployment.right_text) is right
    counted = deployment.counter(PREFILL, "sglang:kv_transfer_total_mb_sum") * 2**20
    assert counted == deployment.kv_bytes * counted_part
    header = HEADER_BYTES if wire_part else 0
    assert deployment.wire_bytes() == deployment.kv_bytes * wire_part + header


def test_rdma_without_a_device_falls_back_to_tcp_in_silence(deploy: Deploy) -> None:
    if Path("/sys/class/infiniband").exists():
        pytest.skip("this machine has an RDMA device")
    deployment = deploy(transport="rdma")
    status, body = deployment.generate()
    assert status == 200
    assert json.loads(body)["text"] == deployment.right_text
    assert deployment.wire_bytes() == deployment.kv_bytes + HEADER_BYTES
    assert "Found 0 HCAs" in (deployment.logs / "prefill.log").read_text()


def test_the_router_turns_a_failing_decode_into_a_500(deploy: Deploy) -> None:
    status, body = deploy(decode=["http-500"]).generate()
    assert status == 500
    assert json.loads(body)["error"]["code"] == "decode_internal_error"
