"""Ask an HTTP server, again where that may help, and say in one line what it answered. For the controller.

No message of this module holds a URL: queries of signed URLs are secrets, as tokens are.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import TYPE_CHECKING, Any, Callable, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

TRIES = 5
BACK_OFF_SECONDS = 5.0  # times the number of tries so far
LONGEST_WAIT_SECONDS = 300.0  # a server that asks for more is not waited for
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_REDIRECTS = 5


class Refused(Exception):  # noqa: N818 (what the server did)
    """The server will not give it, and asking again would change nothing.

    Args:
        status: its HTTP status; 0 when there was none.
        said: what it said, in one line.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status}: {said}" if status else said)
        self.status = status
        self.said = said


class GaveUp(Exception):  # noqa: N818 (what this side did)
    """The server gave no whole answer in all tries. The text is one line."""


class _Truncated(Exception):  # noqa: N818
    """Fewer bytes came than were announced."""


class Bearer(AuthBase):
    """A token, or none: either way requests does not look for credentials in ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Give a request its header."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def ask(
    url: str,
    read: Callable[[requests.Response], T],
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """Get something.

    Server errors, rate limits, and what breaks on the way are tried five times in all, with 5 s, 10 s, 15 s and 20 s
    between, or longer where the server asks for it (https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api).

    Args:
        url: where.
        read: gets the answer, with its body still to be read, and returns what `ask` returns. Called anew for each try.
        token: bearer token. It goes to that server only, never on to another one by a redirect. Empty: no credentials.
            None: those of ~/.netrc, if any.
        headers: further headers.
        pause: waits for seconds.

    Raises:
        Refused: the server will not give it.
        GaveUp: there was no whole answer.
    """
    host, last = urlsplit(url).hostname, ""
    for attempt in range(1, TRIES + 1):
        wait = BACK_OFF_SECONDS * attempt
        try:
            with _open(url, token, headers or {}) as response:
                if response.ok:
                    return read(response)
                last = f"HTTP {response.status_code}: {_said(response, token)}"
                wait = _wait(response, last, wait)
        except requests.exceptions.SSLError as error:
            # From None, here and below: the texts of requests hold URLs, and Ansible prints causes.
            raise Refused(0, f"no trusted connection to {host} ({_reason(error)})") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise Refused(0, f"{host} redirects to an address that is none ({type(error).__name__})") from None
        except (requests.RequestException, _Truncated) as error:
            last = _reason(error)
        if wait > LONGEST_WAIT_SECONDS:
            raise GaveUp(f"{host} asks to wait {wait:.0f} s before the next try ({last})")
        if attempt < TRIES:
            pause(wait)
    raise GaveUp(f"{host} gave no whole answer in {TRIES} tries; the last: {last}")


def save(response: requests.Response, path: Path) -> str:
    """Write a body to a file. Returns its sha256."""
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as stream:
        for chunk in response.iter_content(1 << 20):
            stream.write(chunk)
            digest.update(chunk)
            count += len(chunk)
    announced = response.headers.get("Content-Length", "")
    # urllib3 before 2.0 takes a connection that ends early for the end of the body.
    if announced.isdigit() and int(announced) != count:
        raise _Truncated(f"{count} of {announced} bytes came")
    return digest.hexdigest()


def _open(url: str, token: str | None, headers: dict[str, str]) -> requests.Response:
    """Send one request and go where it is sent to."""
    home = _origin(url)
    for _redirect in range(_REDIRECTS):
        auth = None if token is None else Bearer(token if _origin(url) == home else "")
        response = requests.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            auth=auth,
            allow_redirects=False,
            stream=True,
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),
        )
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise Refused(0, f"{urlsplit(url).hostname} redirects without end")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        raise Refused(0, "redirected to an address that is none") from None


def _wait(response: requests.Response, said: str, back_off: float) -> float:
    """Return the seconds until the next try.

    Raises:
        Refused: another try would change nothing.
    """
    headers, status = response.headers, response.status_code
    spent = headers.get("X-RateLimit-Remaining") == "0"
    limited = status == 429 or (status == 403 and (spent or "Retry-After" in headers or "rate limit" in said.lower()))
    if status < 500 and not limited:
        raise Refused(status, said.partition(": ")[2])
    asked = headers.get("Retry-After", "")
    if asked.isdigit():
        return max(back_off, float(asked))
    until = headers.get("X-RateLimit-Reset", "")
    return max(back_off, float(until) - time.time()) if limited and spent and until.isdigit() else back_off


def _said(response: requests.Response, token: str | None) -> str:
    """Return what an error's body says, in one short line."""
    text = next(response.iter_content(4096), b"").decode("utf-8", "replace")
    found = re.search(r'"message"\s*:\s*"([^"]{1,300})"', text)
    line = " ".join((found[1] if found else re.sub(r"<[^>]*>", " ", text)).split())[:200] or response.reason or ""
    return line.replace(token, "***") if token else line


def _reason(error: Any) -> str:
    """Return why a request broke, without its URL."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {_READ_SECONDS} s"
    text = str(error)
    if isinstance(error, _Truncated):
        return text
    if "IncompleteRead" in text or isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended before the answer was whole"
    known = re.search(r"\[Errno -?\d+\] ([\w ]+)|(certificate verify failed)|(Read timed out)", text)
    return next(filter(None, known.groups())) if known else type(error).__name__
