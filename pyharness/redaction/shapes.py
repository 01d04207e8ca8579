"""Secrets that are known by their form or by the name beside them, although nobody told their value.

A service prints its environment, a server sends a cookie, a library shows the URL that it asked: what is secret there
was never seen by the harness before. One expression for all (RE2: linear in the text, and some hundred megabytes a
second), and what it finds is looked at once more where a name decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import re2

from pyharness.redaction import names

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = (
    rb"passw(?:or)?d|passphrase|secrets?|token|credentials?|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key|"
    rb"auth[_-]?key|account[_-]?key|shared[_-]?key|signing[_-]?key|master[_-]?key|pwd|pass|jwt|cookie"
)
_NUMBERS = rb"[0-9.]*"
_BARE = _NUMBERS + rb"[^\s0-9.\"'\\,;&<>(){}\[\]|][^\s\"'\\,;&<>(){}\[\]|]*"
_QUOTED = rb"[^\"'\\\r\n]+"
_TOKEN_FORMS = (
    rb"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|hf_[A-Za-z0-9]{16,}|glpat-[\w-]{16,}|"
    rb"sk-[A-Za-z0-9_-]{20,}|xox[abeprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|LTAI[A-Za-z0-9]{12,}|AIza[\w-]{35}|"
    rb"pypi-[\w-]{32,}|npm_[A-Za-z0-9]{30,}|dckr_pat_[\w-]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"
)
_PEM = (
    rb"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:(?:\\n|\s)*(?:Proc-Type|DEK-Info):[^\n\\]*)*"
    rb"[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z ]*-----)?"
)
_ALL = (
    rb"(?P<pem>" + _PEM + rb")"
    rb"|://(?P<user>[^\s/@:\"'<>\\]*)(?::(?P<userpass>[^\s/@\"'<>\\]+))?@"
    rb"|(?P<token>" + _TOKEN_FORMS + rb")"
    rb"|(?i:[?&;](?P<query>sig|signature|key|code|x-(?:amz|goog|oss)-(?:signature|credential|security-token))=(?P<signed>[^\s&\"'<>\\#]+))"
    rb"|(?i:authorization\\*[\"']?\s{0,3}[:=]\s{0,3}\\*[\"']?(?:(?:basic|bearer|token|digest|negotiate|aws4-[a-z0-9-]+)\s+)?(?P<authorization>[^\r\n\"'\\]+))"
    rb"|(?i:cookie\\*[\"']?\s{0,3}:\s{0,3}\\*[\"']?(?P<cookie>[^\r\n\"'\\]+))"
    rb"|(?i:bearer\s+(?P<bearer>[A-Za-z0-9._~+/=-]{8,}))"
    rb"|(?i:(?P<word>" + _WORDS + rb")(?P<more>[\w-]*)(?:"
    rb"\\*[\"']\s{0,3}(?::|=>?|,)\s{0,3}\\*[\"'](?P<quoted>" + _QUOTED + rb")"  # "name": "value", "--name", "value"
    rb"|\s{0,3}=\s{0,3}\\*[\"'](?P<assigned>" + _QUOTED + rb")"  # name="value"
    rb"|=(?P<bare>" + _BARE + rb")"  # name=value
    rb"|:[ \t]+\\*[\"']?(?P<said>" + _BARE + rb")"  # name: value
    rb"))"
    rb"|(?i:(?P<flag>--[\w-]*(?:" + _WORDS + rb")[\w-]*)[ \t]+(?P<option>" + _BARE + rb"))"  # --name value
)


def _compiled() -> re2._Regexp:
    options = re2.Options()
    options.max_mem = 64 << 20
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(_ALL, options)


_SHAPES = _compiled()
_GROUP = {bytes(name).decode(): index for name, index in _SHAPES.groupindex.items()}
# To the left of a word: the rest of its name.
_NAME_BEFORE = re.compile(rb"[A-Za-z0-9_.-]*\Z")
_LONGEST_NAME = 80
_LONELY_USER = 16


def found(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Find secrets by their shape.

    Args:
        data: any text.

    Yields:
        begin, end and what it is, in the order of the text.
    """
    position = 0
    while match := _SHAPES.search(data, position):
        span = _secret(data, match)
        if span is None:
            # What was no secret may hold one: look at it again, but for its first word.
            position = max(match.end(_GROUP["word"]), match.end(_GROUP["flag"]), match.start() + 1)
            continue
        yield span
        position = max(span[1], match.start() + 1)


def _secret(data: bytes, match: re2._Match) -> tuple[int, int, str] | None:
    kind = next(
        group
        for group in ("pem", "token", "userpass", "user", "signed", "authorization", "cookie", "bearer", "flag", "word")
        if match.start(_GROUP[group]) >= 0
    )
    if kind == "word":
        return _named(data, match)
    if kind == "flag":
        name, span = _text(match.group(_GROUP["flag"])), match.span(_GROUP["option"])
        known = names.is_secret(name) and not names.is_trivial(_text(match.group(_GROUP["option"])))
        return (*span, name.strip("-")) if known else None
    start, end = match.span(_GROUP[kind])
    if not _is_one(kind, data[start:end], data[max(0, start - 1) : start]):
        return None
    told = {"pem": "private_key", "user": "url_user", "userpass": "url_password"}
    return start, end, _text(match.group(_GROUP["query"])) if kind == "signed" else told.get(kind, kind)


def _is_one(kind: str, value: bytes, before: bytes) -> bool:
    """Tell whether what has the shape of a secret is one."""
    if value.startswith((b"<redacted", b"&lt;redacted")):
        return False
    if kind == "user":  # git@, and not a token in its place
        return len(value) >= _LONELY_USER
    if kind == "token":  # a word of its own, and not `task-…`
        return not before.isalnum()
    if kind == "bearer":  # not "bearer authentication"
        return any(letter in b"0123456789" for letter in value)
    return kind not in ("authorization", "cookie") or not names.is_trivial(_text(value))


def _named(data: bytes, match: re2._Match) -> tuple[int, int, str] | None:
    begin = match.start(_GROUP["word"])
    before = _NAME_BEFORE.search(data[max(0, begin - _LONGEST_NAME) : begin])
    name = _text((before[0] if before else b"") + match.group(_GROUP["word"]) + match.group(_GROUP["more"]))
    if not names.is_secret(name):
        return None
    for kind in ("quoted", "assigned", "bare", "said"):
        start, end = match.span(_GROUP[kind])
        if start < 0:
            continue
        value = _text(data[start:end])
        if names.is_trivial(value):
            return None
        # In prose: "invalid password: expected a string".
        if kind == "said" and names.is_plain(value):
            return None
        return start, end, name.strip("-_.")
    return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
