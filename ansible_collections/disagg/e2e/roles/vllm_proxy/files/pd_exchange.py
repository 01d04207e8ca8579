"""One request on its way through a prefill and a decode server of vLLM. See pd_proxy.py, which it belongs to."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import select
import socket
import threading
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

FORGET = "forget-kv-transfer"
_OK, _REFUSED, _BROKEN = 200, 400, 500
_PIECE_BYTES = 64 * 1024
# How often to look whether the client is still there.
_LOOK_SECONDS = 0.1
_SHOWN = 500
# What shapes the answer and not the prompt: prefill's one token is thrown away.
_ONLY_DECODES = ("stream_options", "stop", "stop_token_ids", "min_tokens", "logprobs", "top_logprobs")


class Failed(Exception):  # noqa: N818
    """A request that gets no answer of decode's.

    Args:
        status: the HTTP status that says so.
        message: why, and whose it is.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        # As OpenAI's API has it.
        self.body = json.dumps({"error": {"message": message, "type": "pd_proxy", "code": status}}).encode()


class Refused(Failed):
    """What a server itself refused: its own status and words are passed on."""

    def __init__(self, status: int, words: bytes) -> None:
        super().__init__(status, words.decode("utf-8", "replace"))
        self.body = words


class ClientLeft(Exception):  # noqa: N818
    """The client has closed its connection."""


class Client(Protocol):
    """Whoever asked."""

    connection: socket.socket

    def answer(self, status: int, body: bytes, type_: str = ...) -> None:
        """Send a whole answer."""

    def begin(self, status: int, type_: str) -> None:
        """Send the head of an answer that comes in pieces."""

    def piece(self, data: bytes) -> None:
        """Send a piece; an empty one is the end."""


@dataclass
class Call:
    """One request to a server, and what has come of it.

    Attributes:
        server: what it is called in messages.
        url: where to.
        body: sent as JSON.
        seconds: how long the server may say nothing.
        news: gets an entry at each change.
    """

    server: str
    url: str
    body: dict[str, Any]
    seconds: float
    news: queue.Queue[Call]
    status: int = 0
    type: str = ""
    pieces: queue.Queue[bytes] = field(default_factory=queue.Queue)
    ended: bool = False
    failed: Failed | None = None
    _socket: socket.socket | None = None
    _dropped: bool = False

    def start(self, request: str) -> None:
        """Ask, under an id that the server's log shows."""
        threading.Thread(target=self._ask, args=(request,), daemon=True).start()

    def _ask(self, request: str) -> None:
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.seconds)
        try:
            connection.connect()
            self._socket = connection.sock
            if self._dropped:
                return
            headers = {"Content-Type": "application/json", "X-Request-Id": request}
            connection.request("POST", parts.path, json.dumps(self.body).encode(), headers)
            answer = connection.getresponse()
            self.type = answer.headers.get("Content-Type", "application/json")
            self.status = answer.status
            self.news.put(self)
            while piece := answer.read1(_PIECE_BYTES):
                self.pieces.put(piece)
                self.news.put(self)
            if answer.length:  # read1 does not mind an answer that is shorter than was said
                raise http.client.IncompleteRead(b"", answer.length)
            self.ended = True
        except TimeoutError:
            self.failed = Failed(504, f"{self.server} {self.url}: said nothing for {self.seconds:g} s")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.failed = Failed(502, f"{self.server} {self.url}: {type(error).__name__}: {error}")
        finally:
            self.news.put(self)
            connection.close()

    def drop(self) -> None:
        """End the request. The server notices, and drops it too."""
        self._dropped = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)

    def taken(self) -> bytes:
        """Return what has come since the last time."""
        found = b""
        with contextlib.suppress(queue.Empty):
            while True:
                found += self.pieces.get_nowait()
        return found

    def refusal(self) -> Failed:
        """Return what an answer other than 200 means for the client."""
        words = self.taken()
        if _REFUSED <= self.status < _BROKEN:
            return Refused(self.status, words)
        told = words[:_SHOWN].decode("utf-8", "replace")
        return Failed(502, f"{self.server} {self.url}: HTTP {self.status}: {told}")


class Exchange:
    """A client's request, as one to each server.

    Args:
        client: who asked.
        prefill: the request to prefill.
        decode: the request to decode.
        news: what both tell of themselves.
    """

    def __init__(self, client: Client, prefill: Call, decode: Call, news: queue.Queue[Call]) -> None:
        self._client, self._prefill, self._decode, self._news = client, prefill, decode, news

    def run(self, request: str) -> str:
        """Ask both servers and pass decode's answer on. Returns what to tell about it.

        Raises:
            Failed: there is nothing to pass on.
            ClientLeft: nobody waits for it any more.
        """
        self._prefill.start(request)
        self._decode.start(request)
        try:
            self._until(lambda: self._prefill.ended)
            _is_whole(self._prefill)
            self._until(lambda: self._decode.ended or _is_stream(self._decode))
            if not _is_stream(self._decode):
                self._client.answer(_OK, self._decode.taken(), self._decode.type)
                return "200"
            self._client.begin(_OK, self._decode.type)
            return self._stream()
        finally:
            self._prefill.drop()
            self._decode.drop()

    def _until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is reached.

        Raises:
            Failed: a server has failed or refused.
            ClientLeft: the client has.
        """
        while True:
            # Looked at first: what a server has failed by then is seen below.
            is_reached = reached()
            for call in (self._prefill, self._decode):
                if call.failed:
                    raise call.failed
                if call.ended and call.status != _OK:
                    raise call.refusal()
            if is_reached:
                return
            self._wait()

    def _wait(self) -> None:
        """Wait for news, or a moment.

        Raises:
            ClientLeft: the client has closed its connection.
        """
        with contextlib.suppress(queue.Empty):
            self._news.get(timeout=_LOOK_SECONDS)
        held = self._client.connection
        if select.select([held], [], [], 0)[0] and not held.recv(1, socket.MSG_PEEK):
            raise ClientLeft

    def _stream(self) -> str:
        """Pass pieces on as they come."""
        try:
            self._until(self._passed_on)
        except Failed as failed:
            self._client.piece(self._decode.taken() + b"data: " + failed.body + b"\n\n")
            return f"200, and the stream broke: {failed}"
        self._client.piece(b"")
        return "200, a stream"

    def _passed_on(self) -> bool:
        """Pass on what has come. Returns whether that was all."""
        ended = self._decode.ended
        if piece := self._decode.taken():
            self._client.piece(piece)
        return ended


def _is_stream(call: Call) -> bool:
    return call.status == _OK and call.type.startswith("text/event-stream")


def _is_whole(prefill: Call) -> None:
    """Check that prefill did what it was asked for.

    Its KV cache is kept for decode only if its request ended by the number of tokens (``request_finished`` of the
    connector); else decode would wait for it in vain.

    Raises:
        Failed: it did something else.
    """
    words = prefill.taken()
    try:
        reason = json.loads(words)["choices"][0]["finish_reason"]
    except (ValueError, LookupError, TypeError):
        reason = None
    if reason != "length":
        told = words[:_SHOWN].decode("utf-8", "replace")
        raise Failed(502, f"prefill {prefill.url}: it did not prefill (finish_reason: {reason}): {told}")


def one_request(body: Any) -> dict[str, Any]:
    """Return the body if it stands for one request of an engine, as one transfer does.

    Raises:
        Failed: it does not.
    """
    if not isinstance(body, dict):
        raise Failed(400, "the body has to be a JSON object")
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) != 1 and not all(isinstance(part, int) for part in prompt):
        raise Failed(400, f"prompt has {len(prompt)} entries, and this proxy has one KV cache moved per request")
    for key in ("n", "best_of"):
        if body.get(key) not in (None, 1):
            raise Failed(400, f"{key} is {body[key]!r}, and this proxy has one KV cache moved per request")
    return body


def split(body: dict[str, Any], engine_id: str, bootstrap: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two requests that a client's becomes, prefill's and decode's.

    Args:
        body: the client's.
        engine_id: of prefill's engine.
        bootstrap: URL of prefill's bootstrap server.
    """
    first = {key: value for key, value in body.items() if key not in _ONLY_DECODES}
    # A first token that ends the answer must not end prefill's request before its KV cache is kept.
    first |= {"max_tokens": 1, "stream": False, "ignore_eos": True}
    if "max_completion_tokens" in body:
        first["max_completion_tokens"] = 1
    transfer = {"transfer_id": f"xfer-{uuid.uuid4().hex}"}
    there = transfer | {"do_remote_decode": True, "do_remote_prefill": False}
    here = transfer | {"do_remote_decode": False, "do_remote_prefill": True}
    here |= {"remote_engine_id": engine_id, "remote_bootstrap_addr": bootstrap}
    return first | {"kv_transfer_params": there}, body | {"kv_transfer_params": here}
