"""Put one prefill and one decode server of vLLM with MooncakeConnector behind one door.

Standard library only, so that it runs with the Python of any environment or image, and without importing vLLM.

Protocol (vLLM 0.32, ``distributed/kv_transfer/kv_connector/v1/mooncake``): prefill registers at its bootstrap server,
whose ``GET /query`` names its engine by data-parallel rank. One request of a client becomes two with the same
``transfer_id``: prefill gets it with ``do_remote_decode`` and for one token, decode with ``do_remote_prefill``, the
engine's id and the bootstrap server's URL. Both go out at once: decode asks prefill's worker for the KV cache.

Doors:

- ``GET /health``: 200 when prefill and decode are healthy and prefill's engine is known, else 503 with the problems.
- ``GET /v1/models``: decode's answer.
- ``POST /v1/completions``, ``/v1/chat/completions``: decode's answer, as a stream where the client asks for one, and
  not before prefill has answered. A refusal (4xx) of either server is passed on; what else goes wrong is 502, 503 or
  504 with an error object that names the server. A stream that breaks ends with an error event, without ``[DONE]``.
  When the client leaves, the requests to both servers are dropped.

Example: ``python pd_proxy.py --host 127.0.0.11 --port 8000 --prefill http://127.0.0.11:8010
--bootstrap http://127.0.0.11:8998 --decode http://127.0.0.12:8020``

``--misbehave forget-kv-transfer``, for tests of tests, leaves out what makes the KV cache move: decode computes it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import queue
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pd_exchange import FORGET, Call, ClientLeft, Exchange, Failed, one_request, split

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("pd_proxy")
ASKED = ("/v1/completions", "/v1/chat/completions")
_OK = 200
_MAX_BODY_BYTES = 64 * 1024 * 1024
# For questions about health, which an engine answers at once or not at all.
_SHORT_SECONDS = 5.0
_SHOWN = 200


def get(url: str, server: str) -> tuple[int, bytes]:
    """GET a URL.

    Args:
        url: where to.
        server: what it is called in a failure.

    Raises:
        Failed: there is no answer.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SHORT_SECONDS)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_BODY_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise Failed(503, f"{server} {url}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


@dataclass(frozen=True)
class Servers:
    """Who is behind the door.

    Attributes:
        prefill: URL of the prefill server.
        bootstrap: URL of its bootstrap server.
        decode: URL of the decode server.
        seconds: how long one of them may say nothing to a request.
        misbehave: what to do wrong.
    """

    prefill: str
    bootstrap: str
    decode: str
    seconds: float = 60.0
    misbehave: tuple[str, ...] = ()

    def engine_id(self) -> str:
        """Return the id of prefill's engine. Asked anew each time: a server that was restarted has another one.

        Raises:
            Failed: its bootstrap server does not say.
        """
        url = f"{self.bootstrap}/query"
        status, body = get(url, "prefill's bootstrap server")
        try:
            return str(json.loads(body)["0"]["engine_id"])
        except (ValueError, LookupError, TypeError) as error:
            told = f"HTTP {status}: {body[:_SHOWN].decode('utf-8', 'replace')}"
            raise Failed(503, f"prefill's bootstrap server {url} names no engine: {told}") from error

    def _healthy(self, server: str, url: str) -> None:
        status, _body = get(f"{url}/health", server)
        if status != _OK:
            raise Failed(503, f"{server} {url}/health: HTTP {status}")

    def problems(self) -> list[str]:
        """Return what stands against serving; nothing when all is well."""

        def problem(question: Callable[[], object]) -> str:
            try:
                question()
            except Failed as failed:
                return str(failed)
            return ""

        questions: list[Callable[[], object]] = [
            lambda: self._healthy("prefill", self.prefill),
            lambda: self._healthy("decode", self.decode),
            self.engine_id,
        ]
        with ThreadPoolExecutor(len(questions)) as pool:
            return [found for found in pool.map(problem, questions) if found]


class Door(BaseHTTPRequestHandler):
    """What clients talk to. `Proxy` gives it the servers."""

    protocol_version = "HTTP/1.1"
    # The last piece of a stream must not wait for the client to acknowledge the one before (Nagle's algorithm).
    disable_nagle_algorithm = True
    server: Proxy

    def do_GET(self) -> None:
        """Answer about health and models."""
        servers = self.server.servers
        if self.path == "/health":
            problems = servers.problems()
            self.answer(503 if problems else _OK, json.dumps({"problems": problems}).encode())
        elif self.path == "/v1/models":
            try:
                self.answer(*get(f"{servers.decode}/v1/models", "decode"))
            except Failed as failed:
                self.answer(failed.status, failed.body)
        else:
            self.answer(404, Failed(404, f"there is no {self.path} here").body)

    def do_POST(self) -> None:
        """Have prefill and decode answer one request."""
        started, request = time.monotonic(), self.headers.get("X-Request-Id") or uuid.uuid4().hex
        try:
            told = self._answered(request)
        except (ClientLeft, ConnectionError):
            told = "the client has left"
            self.close_connection = True
        _LOG.info("%s %s %.3f s: %s", request, self.path, time.monotonic() - started, told)

    def _answered(self, request: str) -> str:
        """Answer a request. Returns what to tell about it."""
        try:
            return self._exchange(one_request(self._body())).run(request)
        except Failed as failed:
            self.answer(failed.status, failed.body)
            return f"{failed.status}: {str(failed)[:_SHOWN]}"

    def _exchange(self, body: dict[str, Any]) -> Exchange:
        servers, news = self.server.servers, queue.Queue[Call]()
        if FORGET in servers.misbehave:
            first, second = {**body, "max_tokens": 1, "stream": False}, body
        else:
            first, second = split(body, servers.engine_id(), servers.bootstrap)
        prefill = Call("prefill", servers.prefill + self.path, first, servers.seconds, news)
        decode = Call("decode", servers.decode + self.path, second, servers.seconds, news)
        return Exchange(self, prefill, decode, news)

    def _body(self) -> Any:
        """Return what was posted.

        Raises:
            Failed: it is not for here, too large, or no JSON.
        """
        self.close_connection = True  # unless all of the body is read, what is left of it is no next request
        if self.path not in ASKED:
            raise Failed(404, f"there is no {self.path} here")
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal():
            raise Failed(411, "the request has to say its Content-Length")
        if int(size) > _MAX_BODY_BYTES:
            raise Failed(413, f"the request is larger than {_MAX_BODY_BYTES} bytes")
        raw = self.rfile.read(int(size))
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        try:
            return json.loads(raw)
        except ValueError as error:
            raise Failed(400, f"the body is no JSON: {error}") from error

    def answer(self, status: int, body: bytes, type_: str = "application/json") -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, status: int, type_: str) -> None:
        """Send the head of an answer that comes in pieces."""
        self.send_response(status)
        self.send_header("Content-Type", type_)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # Until the end has been sent: a client takes a connection that closes before it for what it is.
        self.close_connection = True

    def piece(self, data: bytes) -> None:
        """Send a piece (RFC 9112, section 7.1); an empty one is the end."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: each request is told of once, when it is over."""


class Proxy(ThreadingHTTPServer):
    """The door's server.

    Args:
        address: host and port.
        servers: who is behind it.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], servers: Servers) -> None:
        self.servers = servers
        super().__init__(address, Door)


def main() -> None:
    """Read the arguments and serve until a signal ends the process."""
    parser = argparse.ArgumentParser(description="One door to a prefill and a decode server of vLLM")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", required=True, type=int, help="port to listen on")
    parser.add_argument("--prefill", required=True, metavar="URL", help="the prefill server")
    parser.add_argument("--bootstrap", required=True, metavar="URL", help="its bootstrap server, as decode reaches it")
    parser.add_argument("--decode", required=True, metavar="URL", help="the decode server")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that a server may say nothing")
    parser.add_argument("--misbehave", action="append", default=[], choices=[FORGET], help="for tests of tests")
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    servers = Servers(given.prefill, given.bootstrap, given.decode, given.timeout, tuple(given.misbehave))
    with Proxy((given.host, given.port), servers) as proxy:
        _LOG.info("listening on http://%s:%d", given.host, given.port)
        proxy.serve_forever()


if __name__ == "__main__":
    main()
