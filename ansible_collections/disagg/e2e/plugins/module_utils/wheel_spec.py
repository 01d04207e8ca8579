"""The ways to name a wheel: a file, a version, a URL with its digest, an artifact of GitHub Actions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class WheelSpec:
    """A wheel as it was named.

    Attributes:
        source: `file`, `index`, `url` or `artifact`.
        value: the path, the version, the URL without its fragment, or the artifact's id.
        told: the same as messages and results may show it: without a URL's query, which may be a secret.
        sha256: its digest, of a URL only; else empty.
    """

    source: str
    value: str
    told: str
    sha256: str = ""

    @property
    def file_name(self) -> str:
        """The last part of a path or URL."""
        return unquote(urlsplit(self.value).path).rpartition("/")[2]


def parse(text: str) -> WheelSpec:
    """Read the name of a wheel.

    Raises:
        ValueError: it is none. The text says what is wrong, without naming it.
    """
    kind, separator, rest = text.partition(":")
    if separator and kind == "artifact":
        if not re.fullmatch(r"[0-9]{1,19}", rest):
            raise ValueError(
                "artifact: has to be followed by the id of a GitHub Actions artifact, as in artifact:123456"
            )
        return WheelSpec("artifact", rest, f"artifact:{rest}")
    if "://" in text:
        return _url(text)
    if text.endswith(".whl"):
        return WheelSpec("file", text, text)
    if re.fullmatch(r"[0-9][\w.!+-]*", text, re.ASCII):
        return WheelSpec("index", text, text)
    raise ValueError(
        "this is neither a file ending in .whl nor a version such as 0.3.13, nor a URL with #sha256=…, nor artifact:ID"
    )


def told(text: str) -> str:
    """Return a name as messages may show it, also one that is wrong."""
    if "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _url(text: str) -> WheelSpec:
    try:
        parts = urlsplit(text)
        host, user, password = parts.hostname, parts.username, parts.password
        _port = parts.port
    except ValueError as error:
        raise ValueError(f"this is no URL ({error})") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("a URL has to begin with https:// (or http://) and a host")
    if user is not None or password is not None:
        raise ValueError(
            "a URL with a user or password would be seen in process lists and logs; put them into ~/.netrc"
        )
    name = unquote(parts.path).rpartition("/")[2]
    if not re.fullmatch(r"\w[\w.+!-]*\.whl", name, re.ASCII):
        raise ValueError("a URL has to name a file ending in .whl")
    digest = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", parts.fragment)
    if digest is None:
        raise ValueError("a URL has to say what it leads to; add #sha256= and the 64 digits that sha256sum FILE gives")
    return WheelSpec("url", text.partition("#")[0], told(text), digest[1].lower())
