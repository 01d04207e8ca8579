"""One request, against servers that misbehave: it always ends in time and says what was seen."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from pyharness import exercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # What a server does with a connection; the event tells it that the test is over.
    Behaviour = Callable[[socket.socket, threading.Event], None]
    Serve = Callable[[Behaviour], "Server"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

ADDRESS = "127.0.0.41"


class Server:
    """A server of one behaviour."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave, self.over = behave, threading.Event()
        self.requests: list[bytes] = []
        self.listening = socket.create_server((ADDRESS, 0))
        self.url = f"http://{ADDRESS}:{self.listening.getsockname()[1]}/generate"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with connection:
                self.requests.append(_request(connection))
                try:
                    self.behave(connection, self.over)
                except OSError:
                    continue  # the client has gone: as some tests want it

    def close(self) -> None:
        self.over.set()
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(5)
        assert not self.thread.is_alive()


def _request(connection: socket.socket) -> bytes:
    """Read a request with its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().splitlines() if b"content-length" in line), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server."""
    servers: list[Server] = []

    def start(behave: Behaviour) -> Server:
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answering(body: bytes, status: str = "200 OK") -> Behaviour:
    def behave(connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body)

    return behave


def hanging(_connection: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def dripping(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not over.wait(0.02):
        connection.sendall(b".")


def breaking_off(connection: socket.socket, _over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 1024 * 1024)


def test_an_answer_is_kept_whole(serve: Serve) -> None:
    server = serve(answering(b'{"text": "\xc3\xa4"}'))
    exchange = exercise.post(server.url, {"text": "Wörter"}, 5)
    assert (exchange.status, exchange.problem) == (200, None)
    assert exchange.json() == {"text": "ä"}
    assert exchange.headers["Content-Length"] == "14"
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2]) == {"text": "Wörter"}


def test_a_get_has_no_body(serve: Serve) -> None:
    server = serve(answering(b"ok"))
    assert exercise.get(server.url, 5).body == "ok"
    assert server.requests[0].startswith(b"GET /generate ")
    assert server.requests[0].endswith(b"\r\n\r\n")


def test_a_proxy_of_the_environment_is_not_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(answering(b"from the proxy"))
    monkeypatch.setenv("http_proxy", proxy.url)
    assert exercise.get(serve(answering(b"direct")).url, 5).body == "direct"
    assert not proxy.requests


def test_an_error_status_is_an_answer(serve: Serve) -> None:
    exchange = exercise.get(serve(answering(b"no worker", "503 Service Unavailable")).url, 5)
    assert (exchange.status, exchange.body, exchange.problem) == (503, "no worker", None)


@pytest.mark.parametrize("behave", [hanging, dripping])
def test_no_server_prolongs_the_time(serve: Serve, behave: Behaviour) -> None:
    exchange = exercise.get(serve(behave).url, 0.3)
    assert exchange.problem == "no answer within 0.3 s"
    assert (exchange.status, exchange.body) == (None, None)


def test_nobody_listening_is_said() -> None:
    with socket.socket() as bound:
        bound.bind((ADDRESS, 0))
        exchange = exercise.get(f"http://{ADDRESS}:{bound.getsockname()[1]}/", 5)
    assert exchange.problem == "connection refused"
    assert exchange.status is None


def test_a_connection_that_breaks_mid_body_is_said(serve: Serve) -> None:
    exchange = exercise.get(serve(breaking_off).url, 5)
    assert exchange.problem is not None
    assert "reset by peer" in exchange.problem or "broke" in exchange.problem
    assert exchange.body is None


def test_a_server_that_closes_without_a_word_is_said(serve: Serve) -> None:
    exchange = exercise.get(serve(lambda _connection, _over: None).url, 5)
    assert exchange.problem is not None
    assert exchange.problem.startswith("connection broke: ")


def test_what_is_no_url_is_said() -> None:
    assert "Invalid URL" in str(exercise.get("http://", 5).problem)


def test_an_endless_body_is_cut(serve: Serve) -> None:
    exchange = exercise.get(serve(endless).url, 20)
    assert exchange.body is not None
    assert exercise._MAX_BODY_BYTES < len(exchange.body) < 2 * exercise._MAX_BODY_BYTES


def test_a_watcher_ends_the_wait(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise, "_WATCH_SECONDS", 0.01)
    looks = iter([None, "service decode on two has ended"])
    exchange = exercise.post(serve(hanging).url, {}, 60, watch=lambda: next(looks))
    assert exchange.problem == "service decode on two has ended"
    assert exchange.status is None


def test_without_an_answer_there_is_no_json() -> None:
    exchange = exercise.Exchange("GET", "http://one/", None, None, {}, None, "connection refused", 0.1)
    with pytest.raises(ValueError, match="no answer"):
        exchange.json()


def test_the_transcript_tells_both_sides() -> None:
    exchange = exercise.Exchange("POST", "http://one/x", {"text": "ä"}, 200, {"A": "b"}, "body", None, 0.1234)
    assert exchange.transcript() == '> POST http://one/x\n> {"text": "ä"}\n< HTTP 200\n< A: b\n\nbody\n\n* 0.123 s\n'


def test_the_transcript_of_no_answer() -> None:
    exchange = exercise.Exchange("GET", "http://one/x", None, None, {}, None, "connection refused", 0.0)
    assert exchange.transcript() == "> GET http://one/x\n! connection refused\n* 0.000 s\n"
