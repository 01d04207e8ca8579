"""Engines in vLLM's place for tests of the proxy: HTTP servers that do to a request what a test says."""

from __future__ import annotations

import json
import select
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENGINE_ID = "engine-1"
ONE_TOKEN = {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}], "usage": {"prompt_tokens": 5}}
WHOLE = {"choices": [{"index": 0, "text": "hello world", "finish_reason": "stop"}], "usage": {"prompt_tokens": 5}}
_SECONDS = 10.0


class Request(BaseHTTPRequestHandler):
    """One request to an engine."""

    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        status, document = self.server.doors.get(self.path, (404, {}))
        self.reply(status, document)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.arrived.set()
        self.server.on_post(self)

    def reply(self, status: int, document: Any) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode() if text else b""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def until_dropped(self) -> None:
        """Wait until the other end closes, and note that it has."""
        if select.select([self.connection], [], [], _SECONDS)[0] and self.connection.recv(1) == b"":
            self.server.dropped.set()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Engine(ThreadingHTTPServer):
    """A server with vLLM's doors.

    Attributes:
        on_post: what it does to a request.
        doors: what it answers to GET, by path.
        asked: the bodies that were posted.
        arrived: a request has been posted.
        dropped: whoever asked has closed the connection.
    """

    daemon_threads = True

    def __init__(self, on_post: Callable[[Request], None]) -> None:
        self.on_post = on_post
        self.doors: dict[str, tuple[int, Any]] = {
            "/health": (200, {}),
            "/v1/models": (200, {"data": [{"id": "org/model"}]}),
            "/query": (200, {"0": {"engine_id": ENGINE_ID, "worker_addr": {}}}),
        }
        self.asked: list[dict[str, Any]] = []
        self.arrived, self.dropped = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), Request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that the other end has gone is what many tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def answers(status: int, document: Any) -> Callable[[Request], None]:
    """Return what answers so."""
    return lambda request: request.reply(status, document)


@contextmanager
def serving(*servers: ThreadingHTTPServer) -> Iterator[None]:
    """Have servers serve."""
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
