"""Streams of server-sent events, from a server that ends them in every way there is."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.streamed import Event, Streamed
from pyharness.streaming import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

DONE = "data: [DONE]\n\n"


def word(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


def last(reason: str = "length") -> str:
    return f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': reason}]})}\n\n"


class Handler(BaseHTTPRequestHandler):
    """Sends the pieces that its server has; the piece `wait` waits until the test lets it go on."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for piece in self.server.pieces:
                if piece == "wait":
                    self.server.go_on.wait(10)
                elif piece == "break":
                    return
                else:
                    self._chunk(piece.encode())
            self._chunk(b"")
        except OSError:
            self.server.client_gone.set()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_words: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """What a test has it send."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pieces: list[str] = []
        self.status, self.content_type = 200, "text/event-stream; charset=utf-8"
        self.asked: dict[str, Any] = {}
        self.go_on, self.client_gone = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/chat/completions"


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server of streams."""
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()


def stream(server: Server, *pieces: str, **options: Any) -> Stream:
    server.pieces = list(pieces)
    return Stream(server.url, {"model": "m"}, **{"total_seconds": 10.0, **options})


def test_a_whole_stream(server: Server) -> None:
    usage = f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 2}})}\n\n"
    told = stream(server, ": a comment\n\n", word("one "), word("two"), last(), usage, DONE).result()
    assert server.asked == {"model": "m", "stream": True}
    assert (told.ending, told.problem, told.error) == ("done", None, None)
    assert told.complete
    assert told.text == "one two"
    assert (told.finish_reason, told.usage) == ("length", {"completion_tokens": 2})
    assert len(told.gaps) == 1
    assert told.first_seconds is not None
    assert told.evidence()["content_events"] == 2
    assert "+ " in told.transcript()


def test_text_completions_are_read_too(server: Server) -> None:
    told = stream(server, 'data: {"choices": [{"text": "x", "finish_reason": "stop"}]}\n\n', DONE).result()
    assert (told.text, told.complete) == ("x", True)


def test_without_done_it_is_not_complete(server: Server) -> None:
    told = stream(server, word("one"), last()).result()
    assert (told.ending, told.problem) == ("closed", "ended without [DONE]")
    assert not told.complete


def test_a_broken_connection_is_told_from_an_end(server: Server) -> None:
    told = stream(server, word("one"), "data: {half", "break").result()
    assert told.ending == "truncated"
    assert told.text == "one"
    assert "connection broke" in (told.problem or "")


@pytest.mark.parametrize(
    "event", ['event: error\ndata: {"message": "worker lost"}\n\n', 'data: {"error": {"message": "worker lost"}}\n\n']
)
def test_an_error_event_does_not_depend_on_the_ending(server: Server, event: str) -> None:
    told = stream(server, word("one"), event, DONE).result()
    assert told.ending == "done"
    assert "worker lost" in (told.error or "")
    assert not told.complete


def test_no_finish_reason_is_not_complete(server: Server) -> None:
    assert not stream(server, word("one"), DONE).result().complete


def test_what_is_no_stream_is_refused_with_its_body(server: Server) -> None:
    server.status, server.content_type = 503, "application/json"
    told = stream(server, '{"error": "no workers"}').result()
    assert (told.ending, told.status, told.body) == ("refused", 503, '{"error": "no workers"}')


def test_nobody_there_is_refused() -> None:
    told = Stream("http://127.0.0.1:1/", {}, total_seconds=5).result()
    assert (told.ending, told.status, told.problem) == ("refused", None, "connection refused")


def test_an_event_that_is_late_and_a_stream_that_is(server: Server) -> None:
    told = stream(server, word("one"), "wait", event_seconds=0.2).result()
    assert (told.ending, told.problem) == ("late", "no event for 0.2 s after the first 1")
    told = stream(server, word("one"), "wait", total_seconds=0.2).result()
    assert (told.ending, told.problem) == ("late", "not over within 0.2 s")


def test_a_client_that_breaks_off(server: Server) -> None:
    subject = stream(server, word("one"), "wait", *[word("more")] * 200_000)
    assert subject.wait_events(1, 5)
    assert not subject.is_over
    assert subject.address is not None
    subject.cancel()
    server.go_on.set()
    told = subject.result()
    assert (told.ending, told.problem) == ("cancelled", "broken off by the client after 1 events")
    assert server.client_gone.wait(10)
    subject.cancel()
    assert subject.result() is told


def test_it_can_break_off_by_itself(server: Server) -> None:
    told = stream(server, word("one"), word("two"), word("three"), "wait", cancel_after=2).result()
    assert (told.ending, told.text) == ("cancelled", "one two".replace(" ", ""))


def test_it_ends_when_there_is_nothing_to_hope_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyharness.streaming._WATCH_SECONDS", 0.05)
    ends: list[Streamed] = []
    subject = stream(server, word("one"), "wait", watch=lambda: "service worker has ended", over=ends.append)
    told = subject.result()
    assert (told.ending, told.problem) == ("late", "service worker has ended")
    assert ends == [told]


def test_events_are_waited_for_no_longer_than_asked(server: Server) -> None:
    subject = stream(server, word("one"), "wait")
    assert subject.wait_events(1, 5)
    assert not subject.wait_events(2, 0.05)
    assert [event.text for event in subject.events] == ["one"]


def test_the_gap_in_which_something_happened() -> None:
    now = time.monotonic()
    events = tuple(Event(word(str(n))[6:], "message", now + at) for n, at in enumerate((0.0, 0.1, 2.1, 2.2)))
    told = Streamed("u", {}, 200, {}, None, events, "done", None, now, 2.2)
    assert told.gaps == (0.1, 2.0, 0.1)
    assert told.longest_gap == 2.0
    assert told.gap_around(now + 1) == 2.0
    assert told.gap_around(now + 3) is None
    assert told.gap_during(now + 0.05, now + 1) == 2.0
    assert told.gap_during(now + 0.05, now + 0.07) == 0.1
    assert told.gap_during(now + 3, now + 4) is None
