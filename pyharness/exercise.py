"""Ask services over HTTP and keep the exchange as evidence."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from pyharness import pictures

if TYPE_CHECKING:
    from collections.abc import Callable

# A truncated or endless answer must not fill the harness's memory.
_MAX_BODY_BYTES = 8 * 1024 * 1024
_WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it.

    `status` and `body` are None when there was no answer; `problem` then says why.
    """

    method: str
    url: str
    request: dict[str, Any] | None
    status: int | None
    headers: dict[str, str]
    body: str | None
    problem: str | None
    seconds: float

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: it is none, or there is no body.
        """
        if self.body is None:
            raise ValueError("no answer")
        return json.loads(self.body)

    def transcript(self) -> str:
        """Return the exchange as a person reads it."""
        lines = [f"> {self.method} {self.url}"]
        if self.request is not None:
            lines.append(f"> {json.dumps(self.request, ensure_ascii=False)}")
        if self.status is not None:
            lines.append(f"< HTTP {self.status}")
            lines += [f"< {name}: {value}" for name, value in self.headers.items()]
        if self.body is not None:
            lines += ["", self.body, ""]
        if self.problem:
            lines.append(f"! {self.problem}")
        lines.append(f"* {self.seconds:.3f} s")
        return "\n".join(lines) + "\n"


def not_asked(url: str) -> Exchange:
    """Return the exchange that stands where no request has been made yet."""
    return Exchange("POST", url, None, None, {}, None, "not asked", 0.0)


def _session() -> requests.Session:
    session = requests.Session()
    # Nodes are asked directly: a proxy of the environment is for the outside world.
    session.trust_env = False
    return session


def get(url: str, timeout: float) -> Exchange:
    """GET a URL, within `timeout` seconds."""
    return ask("GET", url, None, timeout)


def post(url: str, body: dict[str, Any], timeout: float, *, watch: Callable[[], str | None] | None = None) -> Exchange:
    """POST JSON to a URL. See `ask`."""
    return ask("POST", url, body, timeout, watch=watch)


def ask(
    method: str,
    url: str,
    body: dict[str, Any] | None,
    timeout: float,
    *,
    watch: Callable[[], str | None] | None = None,
) -> Exchange:
    """Send one request, and give up in time.

    Args:
        method: GET or POST.
        url: where to.
        body: sent as JSON, with pictures in the place of their names (see pictures.py); None sends none.
        timeout: seconds for the whole exchange; a server that sends a byte now and then does not prolong it.
        watch: asked once a second while there is no answer; a text means that there will be none, and why.
    """
    started = time.monotonic()
    done: dict[str, Any] = {}
    over = threading.Event()
    # The exchange keeps their names: a person reads it.
    sent = pictures.embedded(body)

    def work() -> None:
        try:
            with _session() as session, session.request(method, url, json=sent, timeout=timeout, stream=True) as answer:
                done["status"], done["headers"] = answer.status_code, dict(answer.headers)
                done["body"] = _read(answer)
        except (requests.RequestException, OSError) as error:
            done["problem"] = _reason(error, timeout)
        finally:
            over.set()

    # A daemon: a request that hangs is left alone, and ends when its server is stopped.
    threading.Thread(target=work, daemon=True).start()
    deadline, next_look = started + timeout, started + _WATCH_SECONDS
    problem = None
    while problem is None and not over.wait(0.05):
        moment = time.monotonic()
        if moment > deadline:
            problem = f"no answer within {timeout:g} s"
        elif watch is not None and moment > next_look:
            problem = watch()
            next_look = time.monotonic() + _WATCH_SECONDS
    if problem is not None:
        done = {}
    return Exchange(
        method=method,
        url=url,
        request=body,
        status=done.get("status"),
        headers=done.get("headers", {}),
        body=done.get("body"),
        problem=problem or done.get("problem"),
        seconds=time.monotonic() - started,
    )


def _read(answer: requests.Response) -> str:
    raw = b""
    for block in answer.iter_content(64 * 1024):
        raw += block
        if len(raw) > _MAX_BODY_BYTES:
            break
    return raw.decode("utf-8", "replace")


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s"
    if isinstance(error, requests.ConnectionError):
        text = str(error)
        return "connection refused" if "refused" in text else f"connection broke: {text[:300]}"
    return f"{type(error).__name__}: {str(error)[:300]}"
