"""Errors that a person has to do something about."""

from __future__ import annotations

# Characters. More of one mistake nobody reads; what was given may be a whole file by mistake.
_LINE = 2000


class UsageError(Exception):
    """What the caller asked for cannot be done. Its text is one line: what, where, what to do. Exit code 2."""


def one_line(error: Exception | str) -> str:
    """Return a text as one line that any terminal and log takes, whatever was given and is repeated in it.

    Control characters, marks that turn the direction of writing and bytes that are no UTF-8 are written as Python
    escapes them. Of a text that is too long the middle is left out.

    Args:
        error: the error, or its text.
    """
    words = " ".join(str(error).split())
    if len(words) > _LINE:
        words = f"{words[: _LINE // 2]} … {words[-_LINE // 2 :]}"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in words)
