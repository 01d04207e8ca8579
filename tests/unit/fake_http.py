"""An HTTP server that answers what a test tells it to: GitHub, a store of artifacts, T-One."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Answer:
    """One answer.

    Attributes:
        body: bytes, or what JSON can hold.
        cut: end the connection after that many bytes of it.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Request:
    """What was asked."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class FakeServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        answers: by path; several: one after the other, the last for ever; a function: of the request.
        requests: what was asked, in order.
    """

    daemon_threads = True

    def __init__(self, address: str) -> None:
        self.answers: dict[str, Answer | list[Answer] | Callable[[Request], Answer]] = {}
        self.requests: list[Request] = []
        super().__init__((address, 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def asked(self, end: str = "") -> list[Request]:
        """Return the requests for paths that end so."""
        return [request for request in self.requests if request.path.endswith(end)]

    def answer(self, request: Request) -> Answer:
        """Find the answer."""
        self.requests.append(request)
        found = self.answers.get(request.path, Answer(404, {"message": "Not Found"}))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found if isinstance(found, Answer) else found(request)


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.answer(Request(parts.path, query, dict(self.headers), body))
        self.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.content)), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer.content[: answer.cut])

    do_POST = do_PATCH = do_GET  # noqa: N815

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(address: str) -> Iterator[FakeServer]:
    """Serve on an address of the loopback network, on a free port."""
    server = FakeServer(address)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
