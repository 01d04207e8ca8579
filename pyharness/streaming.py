"""Ask for a stream of server-sent events, and keep when each of them came.

A stream runs in a thread of its own from the moment it is made, so that a fault can be made in the middle of it. Events
are parsed by httpx-sse (https://html.spec.whatwg.org/multipage/server-sent-events.html); what they hold is read as the
chunks of OpenAI's completions (https://platform.openai.com/docs/api-reference/chat-streaming), whose stream ends with
``data: [DONE]``. A stream that stops without it is told from one whose connection broke.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse

from pyharness.streamed import DONE, Event, Streamed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.streamed import Ending

_CONNECT_SECONDS = 10.0
# Of an answer that is no stream: enough for an error in words.
_MAX_BODY_BYTES = 64 * 1024
_WATCH_SECONDS = 1.0


@cache
def _certificates() -> ssl.SSLContext:
    """Return what is made once for all: to read the certificates takes longer than a short stream."""
    return ssl.create_default_context()


class Stream:
    """One streaming request, under way from the moment it is made.

    Args:
        url: where to.
        body: sent as JSON, with ``"stream": true``.
        total_seconds: how long all of it may take.
        event_seconds: how long the next event may keep one waiting, the first one too; None: as long as all of it.
        cancel_after: break off, as a client that goes away does, after so many events; None: never.
        watch: asked now and then; a text means that there will be no more events, and why.
        over: told what came of it when it is over.

    Attributes:
        address: the client's own end of the connection, IP and port; None until it is connected.
    """

    def __init__(
        self,
        url: str,
        body: dict[str, Any],
        *,
        total_seconds: float,
        event_seconds: float | None = None,
        cancel_after: int | None = None,
        watch: Callable[[], str | None] | None = None,
        over: Callable[[Streamed], None] | None = None,
    ) -> None:
        self.url, self.body = url, {**body, "stream": True}
        self.address: tuple[str, int] | None = None
        self._event_seconds, self._cancel_after = event_seconds or total_seconds, cancel_after
        self._watch, self._tell = watch, over
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._socket: socket.socket | None = None
        self._answer: dict[str, Any] = {}
        # Why this side ended it; the first reason counts.
        self._ended_by_us: tuple[Ending, str] | None = None
        self._result: Streamed | None = None
        self._over = False
        self._started = time.monotonic()
        self._deadline = self._started + total_seconds
        self._total_seconds = total_seconds
        # Daemons: what hangs is left alone, and ends with its server.
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._mind, daemon=True).start()

    # -- for the caller

    @property
    def events(self) -> tuple[Event, ...]:
        """The events so far."""
        return tuple(self._events)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._result is not None

    def wait_events(self, count: int, seconds: float) -> bool:
        """Wait until so many events have come, `seconds` at most. Returns whether they have; see `events` for which."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) >= count or self._result is not None, seconds)
            return len(self._events) >= count

    def cancel(self) -> None:
        """Break the stream off, as a client that goes away does. Nothing happens to one that is over."""
        self._end("cancelled", f"broken off by the client after {len(self._events)} events")
        self.result()

    def result(self) -> Streamed:
        """Wait until the stream is over, which its deadlines bound. Returns what came of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._result is not None)
            assert self._result is not None
            return self._result

    # -- the threads

    def _read(self) -> None:
        ending: Ending
        problem: str | None
        try:
            ending, problem = self._receive()
        except httpx.HTTPError as error:
            began = self._answer.get("status") is not None
            ending, problem = ("truncated" if began else "refused"), _reason(error)
        except (OSError, ValueError, httpx_sse.SSEError) as error:
            ending, problem = "truncated", _reason(error)
        self._finish(ending, problem)

    def _receive(self) -> tuple[Ending, str | None]:
        limits = httpx.Timeout(self._total_seconds, connect=min(_CONNECT_SECONDS, self._total_seconds))
        # No proxy: nodes are asked directly, whatever the environment says of the outside world.
        with (
            httpx.Client(trust_env=False, verify=_certificates(), timeout=limits) as client,
            client.stream("POST", self.url, json=self.body, extensions={"trace": self._trace}) as answer,
        ):
            self._answer.update(status=answer.status_code, headers=dict(answer.headers))
            if answer.status_code != httpx.codes.OK or "event-stream" not in answer.headers.get("content-type", ""):
                self._answer["body"] = _beginning(answer)
                return "refused", f"HTTP {answer.status_code}, {answer.headers.get('content-type', 'no content type')}"
            done = False
            for found in httpx_sse.EventSource(answer).iter_sse():
                done = done or found.data == DONE
                self._take(Event(found.data, found.event, time.monotonic()))
            return ("done", None) if done else ("closed", f"ended without {DONE}")

    def _trace(self, name: str, information: dict[str, Any]) -> None:
        """Keep the connection's socket; see https://www.encode.io/httpcore/extensions/#trace."""
        if name == "connection.connect_tcp.complete":
            self._socket = information["return_value"].get_extra_info("socket")
            if self._socket is not None:
                host, port = self._socket.getsockname()[:2]
                self.address = (host, port)

    def _take(self, event: Event) -> None:
        with self._changed:
            if self._ended_by_us is not None:
                return  # it lay in a buffer: the client has gone
            self._events.append(event)
            self._changed.notify_all()
        if self._cancel_after is not None and len(self._events) >= self._cancel_after:
            self._end("cancelled", f"broken off by the client after {len(self._events)} events")

    def _mind(self) -> None:
        """End the stream when a deadline passes, or when there is nothing more to hope for."""
        next_look = self._started + _WATCH_SECONDS
        while True:
            with self._changed:
                last = self._events[-1].at if self._events else self._started
                soon = min(self._deadline, last + self._event_seconds, next_look)
                if self._changed.wait_for(lambda: self._over, max(0.0, soon - time.monotonic())):
                    return
                last, count = (self._events[-1].at if self._events else self._started), len(self._events)
            now = time.monotonic()
            if now >= self._deadline:
                self._end("late", f"not over within {self._total_seconds:g} s")
            elif now >= last + self._event_seconds:
                self._end("late", f"no event for {self._event_seconds:g} s after the first {count}")
            elif now >= next_look:
                next_look = now + _WATCH_SECONDS
                reason = self._watch() if self._watch is not None else None
                if reason:
                    self._end("late", reason)
            if self._ended_by_us is not None:
                return

    def _end(self, ending: Ending, problem: str) -> None:
        """Close this side of the connection, which the reader then finds at its end."""
        with self._changed:
            if self._ended_by_us is not None or self._over:
                return
            self._ended_by_us = (ending, problem)
        if self._socket is None:
            self._finish(ending, problem)  # not connected yet: there is nothing to close
            return
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was faster

    def _finish(self, ending: Ending, problem: str | None) -> None:
        with self._changed:
            if self._over:
                return
            self._over = True
            self._changed.notify_all()
            if self._ended_by_us is not None:
                ending, problem = self._ended_by_us
            result = Streamed(
                url=self.url,
                request=self.body,
                status=self._answer.get("status"),
                headers=self._answer.get("headers", {}),
                body=self._answer.get("body"),
                events=tuple(self._events),
                ending=ending,
                problem=problem,
                started=self._started,
                seconds=time.monotonic() - self._started,
            )
        if self._tell is not None:
            self._tell(result)
        with self._changed:
            self._result = result
            self._changed.notify_all()


def _beginning(answer: httpx.Response) -> str:
    raw = b""
    for block in answer.iter_bytes():
        raw += block
        if len(raw) > _MAX_BODY_BYTES:
            break
    return raw[:_MAX_BODY_BYTES].decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return "connection refused" if "refused" in str(error) else f"no connection: {error}"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in time ({type(error).__name__})"
    return f"connection broke: {type(error).__name__}: {str(error)[:300]}"
