"""What goes back over HTTP, and the wrong things that can go back instead."""

import json
import random
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from pyharness.simulator.misbehaviour import Misbehaving

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
EVENTS: Final = "text/event-stream; charset=utf-8"
DONE: Final = b"data: [DONE]\n\n"
_GARBAGE_BYTES: Final = 256


@dataclass(frozen=True)
class Reply:
    """One HTTP response.

    Attributes:
        status: HTTP status.
        content_type: The header of that name.
        body: The content, in the pieces in which a stream is sent.
        streamed: Whether the pieces go out one by one (chunked) or as one body with its length.
        complete: Whether all of it is sent; False: the connection breaks after half.
        pause: Seconds before each piece of a stream but the first.
    """

    status: int
    content_type: str
    body: tuple[bytes, ...]
    streamed: bool = False
    complete: bool = True
    pause: float = 0.0


def json_reply(content: Any, status: int = HTTPStatus.OK) -> Reply:
    """Make a JSON response."""
    return Reply(status, JSON, (json.dumps(content, ensure_ascii=False).encode(),))


def text_reply(content: str, status: int = HTTPStatus.OK, content_type: str = TEXT) -> Reply:
    """Make a textual response."""
    return Reply(status, content_type, (content.encode(),))


def error_reply(message: str, status: int, kind: str) -> Reply:
    """Make an error in SGLang's form."""
    return json_reply(_error(message, status, kind), status)


def event_stream(events: list[dict[str, Any]]) -> Reply:
    """Make a stream of server-sent events, ended by ``[DONE]``."""
    pieces = (f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events)
    return Reply(HTTPStatus.OK, EVENTS, (*pieces, DONE), streamed=True)


def spoiled(reply: Reply, misbehaving: Misbehaving) -> Reply:
    """Replace a good answer to an inference request by the bad one that was asked for.

    Args:
        reply: The good answer.
        misbehaving: What to do wrong; of several, the first that applies in the order of this function.

    Returns:
        The bad answer, or the good one when nothing here was asked for.
    """
    if "http-500" in misbehaving:
        return simulated_failure(html=misbehaving.choice("http-500") == "html")
    if "error-object" in misbehaving:
        error = _error("simulated failure", HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")
        return event_stream([error]) if reply.streamed else json_reply(error)
    if "not-json" in misbehaving:
        return text_reply("<html><body>Please sign in to continue.</body></html>\n", content_type=HTML)
    if "garbage-bytes" in misbehaving:
        # Fixed, so that a failing run can be repeated; none of it is valid UTF-8.
        noise = bytes(0x80 | byte for byte in random.Random(0).randbytes(_GARBAGE_BYTES))  # noqa: S311
        return replace(reply, body=(noise,))
    if "truncated-stream" in misbehaving:
        return replace(reply, complete=False)
    return reply


def simulated_failure(*, html: bool = False) -> Reply:
    """Make the 500 that some misbehaviours answer with, as JSON or as a web server's page."""
    if html:
        page = "<html><body><h1>500 Internal Server Error</h1></body></html>\n"
        return text_reply(page, HTTPStatus.INTERNAL_SERVER_ERROR, HTML)
    return error_reply("simulated failure", HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")


def _error(message: str, status: int, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": int(status), "retryable": False}}
