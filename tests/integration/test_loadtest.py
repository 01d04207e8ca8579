"""The verb `bench` with the real aiperf, against servers that succeed, that fail now and then, and that only fail."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli
from pyharness.simulator.model import write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

requires = "aiperf"
pytestmark = [pytest.mark.post_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

ADDRESS = "127.0.0.45"
CASE = "test_dynamo_router"
MODEL = "Qwen/Qwen3-8B"
# Of its requests aiperf sends the warm-up first: at concurrency 2 two of them.
WARM_UP = 2
REQUESTS = 6


class Server(ThreadingHTTPServer):
    """Streams as OpenAI's API does (https://platform.openai.com/docs/api-reference/chat-streaming), or fails."""

    daemon_threads = True

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.fails, self.bodies = fails, list[dict[str, Any]]()
        self.numbers, self.lock = itertools.count(), threading.Lock()
        super().__init__((ADDRESS, 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._whole(200, {"object": "list", "data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = next(self.server.numbers)
            self.server.bodies.append(body)
        if self.server.fails(number):
            self._whole(500, {"error": {"message": "the engine is gone"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _token in range(body.get("max_completion_tokens") or body["max_tokens"]):
            choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _whole(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(fails: Callable[[int], bool]) -> Iterator[Server]:
    server = Server(fails)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def bench(server: Server, tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    write_model("qwen3", 1, tmp_path / "model")
    given = ["bench", CASE, "--url", f"http://{ADDRESS}:{server.server_address[1]}", "--results", str(tmp_path / "run")]
    given += ["--tokenizer", str(tmp_path / "model"), "--requests", str(REQUESTS), "--concurrency", "2"]
    code = cli.main([*given, "--input-tokens", "24", "--output-tokens", "5", *words])
    return code, json.loads((tmp_path / "run" / f"bench_{CASE}" / "bench.json").read_text())


def test_every_request_is_a_prompt_of_its_own_and_the_same_seed_sends_the_same(tmp_path: Path) -> None:
    sent: list[list[str]] = []
    for name in ("one", "two"):
        with serving(lambda _number: False) as server:
            code, document = bench(server, tmp_path / name, "--seed", "11")
        assert code == 0
        (turn,) = document["turns"]
        assert (turn["requests"], turn["succeeded"], turn["errors"]) == (REQUESTS, REQUESTS, {})
        assert turn["figures"]["output_tokens"] == 5
        assert turn["figures"]["requests_per_second"] > 0
        sent.append(sorted(str(body["messages"]) for body in server.bodies))
        assert len(set(sent[-1])) == REQUESTS + WARM_UP
    assert sent[0] == sent[1]


def test_errors_now_and_then_are_counted(tmp_path: Path) -> None:
    with serving(lambda number: number >= WARM_UP and number % 2 == 0) as server:
        code, document = bench(server, tmp_path)
    (turn,) = document["turns"]
    assert (code, turn["succeeded"], turn["problem"]) == (0, REQUESTS // 2, None)
    assert sum(turn["errors"].values()) == REQUESTS // 2
    assert any("the engine is gone" in text for text in turn["errors"])


def test_nothing_but_errors_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _number: True) as server:
        code, document = bench(server, tmp_path, "-q")
    (turn,) = document["turns"]
    assert (code, turn["succeeded"], turn["figures"], document["points"][0]["runs"]) == (2, 0, {}, [0, 1])
    assert sum(turn["errors"].values()) == REQUESTS
    assert "not measured: no request succeeded: 6 x 500" in capsys.readouterr().err
