"""Which names say that their value is a secret, and which values are too plain to be looked for in a text.

A name is taken apart into words (`DB_PASSWORD`, `dbPassword`, `x-api-key`). Words of language models keep a token from
being a secret: `max_tokens`, `token_count`, `eos_token`. So do words that say that the value is not the secret itself
but where or what it is: `token_url`, `password_file`, `secret_name`.
"""

from __future__ import annotations

import os
import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SECRET_WORDS = _set(
    "password passwd passphrase secret secrets token credential credentials apikey authorization cookie cookies jwt "
    "bearer"
)
# A word may be grown together with others: PGPASSWORD, mytoken, clientsecret.
_SECRET_ENDINGS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey", "pwd")
_SECRET_LAST = frozenset({"pass", "pwd", "auth"})
_KEYS = _set("api access private secret auth signing encryption account shared master license subscription")
_NOT_THE_SECRET = _set(
    "file files path dir directory folder url uri endpoint host name names type types kind count limit size length len "
    "timeout ttl expiry expires expiration enabled required helper format prefix suffix version algorithm method "
    "policy usage ratio budget parallel index"
)
_TOKENS_OF_MODELS = _set(
    "max min num number count id ids eos bos pad unk sep cls mask end start stop new prompt completion per total one "
    "last first next special begin added image audio video input output think reasoning tokenizer page kv cached "
    "one unexpected each every decode prefill"
)
# The words themselves, and no more than these: what `name` may be without being one.
_NEVER = frozenset({"pwd", "oldpwd", "pass", "auth", "ssh_auth_sock", "git_askpass", "ssh_askpass"})
_TRIVIAL = _set(
    "true false none null nil yes no on off undefined unset default required optional redacted disabled enabled auto "
    "value_specified_in_no_log_parameter"
)
_ROOTS = "bin|boot|data|dev|etc|home|lib|mnt|opt|proc|root|run|srv|sys|tmp|usr|var|work|workspace"
_PATH = re.compile(rf"(?:~|\.{{1,2}})?/(?:(?:{_ROOTS})(?:/|$))?")
# A shell's, to be put in elsewhere.
_VARIABLE = re.compile(r"\$[A-Z_][A-Z0-9_]*")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# Below these a value is everywhere in any text: hiding it would hide the text.
SHORTEST = 6
_SHORTEST_NUMBER = 10
_SHORTEST_WORD = 16


def is_secret(name: str) -> bool:
    """Tell whether a variable, header, option or key of this name holds a secret.

    Args:
        name: in any way of writing names, with leading dashes or without.
    """
    bare = name.strip("-_. ")
    if bare.lower() in _NEVER or not bare:
        return False
    words = [word.lower() for part in re.split(r"[^A-Za-z0-9]+", bare) for word in _words(part)]
    if not words or words[-1] in _NOT_THE_SECRET:
        return False
    if any(word == "key" and index and words[index - 1] in _KEYS for index, word in enumerate(words)):
        return True
    if words[-2:] == ["key", "id"] and "access" in words:
        return True
    found = [word for word in words if word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS)]
    if found and all(word == "token" for word in found):
        return _TOKENS_OF_MODELS.isdisjoint(words)
    return bool(found) or (len(words) > 1 and words[-1] in _SECRET_LAST)


def _words(part: str) -> list[str]:
    """Take apart what is written like thisOne; what is all of one case is one word."""
    return _WORD.findall(part) or [part]


def is_trivial(value: str) -> bool:
    """Tell whether a value says nothing, whatever its name: a switch, nothing at all, a template, or already hidden."""
    text = value.strip().strip("*").lower()
    if _VARIABLE.fullmatch(value.strip()):
        return True
    return len(text) < 3 or text in _TRIVIAL or text.startswith(("{{", "${", "$(", "<redacted", "&lt;redacted"))


def is_plain(value: str) -> bool:
    """Tell whether a value is too plain to be looked for wherever it may stand.

    Such a value is still hidden beside its name. Looked for anywhere, a password `main` or `8000` would make every log
    unreadable, and the holes in it would tell the password.
    """
    text = value.strip()
    if is_trivial(text) or len(text) < SHORTEST or len(set(text)) < 3:
        return True
    if text.isdecimal():
        return len(text) < _SHORTEST_NUMBER
    if text.isalpha() and (text.islower() or text.isupper() or text.istitle()):
        return len(text) < _SHORTEST_WORD
    found = _PATH.match(text)
    return found is not None and (len(found[0]) > 2 or os.path.exists(text))  # noqa: PTH110 (any text, also one with zeros)
