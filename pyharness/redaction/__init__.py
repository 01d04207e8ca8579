"""No secret in any output: the one place that knows what is secret, and hides it.

Everything that leaves the harness goes through here: results, logs, the bundle, standard output and standard error.
Two things are hidden. What the harness was given under a name that says so (environment, `-e`, the inventory, what
Ansible passes to a module), in each encoding that it may leave in. And what is known by its shape or by the name beside
it (see shapes.py). The place of a secret takes `<redacted: NAME>`.

Values that are shorter than six characters, or plain words, small numbers or paths, are hidden beside their name only
(see names.py): looked for anywhere they would make texts unreadable.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Protocol

import re2

from pyharness.redaction import forms, inventory, names, shapes, streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

_BLOCK_BYTES = 4 * 1024 * 1024
# No secret and no name of one is longer, but for what is cut here on purpose: the begin of a longer one is hidden too.
_OVERLAP_BYTES = 64 * 1024
# Values below this are taken for themselves only where no letter or digit goes on: `abc123` in a digest is chance.
_ALONE_BYTES = 12
# Ansible wraps its messages to the width of the terminal, in the middle of words too.
_WRAP = rb"(?:\r?\n *)?"
_WRAPPED = re.compile(rb"\r?\n *")
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
_LONGEST_WRAPPED = 256


class Readable(Protocol):
    """Whatever gives bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, `size` at most."""


class Redactor:
    """Learns secrets and hides them. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may write in the middle of it
        self._values: dict[str, str] = {}
        # What to look for: the bytes, whose they are, and whether they are a part of base64.
        self._forms: dict[bytes, tuple[str, bool]] = {}
        self._pattern: Any = None

    def learn(self, name: str, value: object) -> None:
        """Take a value for a secret, whatever it is called, unless it is too plain to be looked for (names.is_plain).

        Args:
            name: stands in its place; shown to people.
            value: the secret. A mapping or a list is taken apart, everything in it being secret.
        """
        if isinstance(value, dict):
            for key, entry in value.items():
                self.learn(f"{name}.{key}", entry)
            return
        if isinstance(value, list | tuple | set):
            for entry in value:
                self.learn(name, entry)
            return
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        with self._lock:
            for part in forms.parts(text):
                if part not in self._values and not names.is_plain(part):
                    self._values[part] = name
                    self._note(_label(name), part)

    def _note(self, name: str, value: str) -> None:
        for form in forms.plain(value):
            if len(form) >= names.SHORTEST:
                self._forms.setdefault(form.encode("utf-8", "replace"), (name, False))
        for core in forms.cores(value):
            self._forms.setdefault(core.encode(), (name, True))
        self._pattern = None

    def learn_environment(self, environment: Mapping[str, str]) -> None:
        """Learn the variables whose name says that they are secret, and what is secret in the others' values."""
        self.learn_variables(environment)

    def learn_variables(self, variables: Mapping[str, object]) -> None:
        """Learn from variables of any depth: extra variables, an inventory's, the arguments of a module."""
        for name, value in variables.items():
            self._look_at(str(name), value)

    def learn_inventory(self, path: Path) -> None:
        """Learn what stands in an inventory's own files. What Ansible makes of them is `learn_variables`' to take."""
        with suppress(RecursionError):  # a mapping in itself, by an alias: Ansible refuses it
            self.learn_variables(inventory.variables(path))

    def _look_at(self, name: str, value: object) -> None:
        if names.is_secret(name) and not isinstance(value, bool | None.__class__):
            self.learn(name, value)
        elif isinstance(value, dict):
            for key, entry in value.items():
                self._look_at(str(key), entry)
        elif isinstance(value, list | tuple | set):
            before = ""
            for entry in value:
                # A list of arguments: --api-key, and then the key.
                self._look_at(before if before.startswith("-") and isinstance(entry, str) else "", entry)
                before = str(entry)
        elif isinstance(value, str | bytes):
            if name.endswith("wheel") and isinstance(value, str):
                self.learn("wheel_query", value.partition("#")[0].partition("?")[2])
            raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
            for start, end, kind in shapes.found(raw):
                self.learn(kind, raw[start:end])

    def known(self) -> dict[str, str]:
        """Return every value that was learned, with its name: for a file that only this user can read."""
        with self._lock:
            return dict(self._values)

    def forget(self) -> None:
        """Forget every value."""
        with self._lock:
            self._values.clear()
            self._forms, self._pattern = {}, None

    def guarded_streams(self) -> AbstractContextManager[None]:
        """Return a block in which nothing secret gets out on standard output or standard error."""
        return streams.guarded(self.redact)

    def redact(self, text: str, *, markup: bool = False) -> str:
        """Return a text without its secrets.

        Args:
            text: what is to leave.
            markup: it is HTML or XML, so that what is put in has to be escaped.
        """
        raw = text.encode("utf-8", "surrogatepass")
        clean = self.redact_bytes(raw, markup=markup)
        return text if clean is raw else clean.decode("utf-8", "surrogatepass")

    def redact_bytes(self, data: bytes, *, markup: bool = False) -> bytes:
        """Return a text's bytes without its secrets; the same object where there are none."""
        return _joined(data, self._spans(data), markup=markup)

    def redact_value(self, value: Any, name: str = "") -> Any:
        """Return a document of JSON without its secrets: also those that only the name of their key tells.

        Args:
            value: of any depth.
            name: the key that it stands under.
        """
        if isinstance(value, dict):
            return {self.redact(str(key)): self.redact_value(entry, str(key)) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self._member(value, index, name) for index in range(len(value))]
        if isinstance(value, bool) or value is None:
            return value
        text = str(value)
        if names.is_secret(name) and not names.is_trivial(text):
            return f"<redacted: {_label(name)}>"
        variable, assigned, rest = text.partition("=")
        if assigned and names.is_secret(variable) and not names.is_trivial(rest) and variable.isidentifier():
            return f"{variable}=<redacted: {_label(variable)}>"
        clean = self.redact(text)
        return value if clean == text else clean

    def _member(self, value: list[Any] | tuple[Any, ...], index: int, name: str) -> Any:
        before = value[index - 1] if index else ""
        option = before if isinstance(before, str) and before.startswith("-") else ""
        return self.redact_value(value[index], option if names.is_secret(option) else name)

    def redact_json(self, text: str) -> str:
        """Return a document of JSON without its secrets, still a document. What is no JSON is taken as a text."""
        try:
            document = json.loads(text)
        except ValueError:
            return self.redact(text)
        clean = self.redact_value(document)
        if clean == document:
            return text
        return json.dumps(clean, indent=2 if "\n" in text.strip() else None) + ("\n" if text.endswith("\n") else "")

    def copy(self, source: Readable, target: IO[bytes], *, markup: bool = False) -> None:
        """Copy a stream without its secrets, in memory of a few blocks; none is missed that lies across two of them.

        Args:
            source: read to its end.
            target: written to.
            markup: see `redact`.
        """
        rest = b""
        while block := source.read(_BLOCK_BYTES):
            data = rest + block
            spans = self._spans(data)
            cut = max(0, len(data) - _OVERLAP_BYTES)
            # Before a line rather than within, so that what follows keeps the name that it stands beside.
            cut = data.rfind(b"\n", max(0, cut - _OVERLAP_BYTES), cut) + 1 or cut
            cut = next((start for start, end, _name in spans if start < cut < end), cut) or len(data)
            target.write(_joined(data[:cut], [span for span in spans if span[1] <= cut], markup=markup))
            rest = data[cut:]
        target.write(self.redact_bytes(rest, markup=markup))

    def _spans(self, data: bytes) -> list[tuple[int, int, str]]:
        """Return where secrets are: begin, end and name, in order, none overlapping another."""
        result: list[tuple[int, int, str]] = []
        for span in sorted([*self._known(data), *shapes.found(data)]):
            if result and span[0] < result[-1][1]:
                start, end, name = result[-1]
                result[-1] = (start, max(end, span[1]), name)
            else:
                result.append(span)
        return result

    def _known(self, data: bytes) -> Iterator[tuple[int, int, str]]:
        with self._lock:
            if self._pattern is None and self._forms:
                self._pattern = _alternation(self._forms)
            pattern, known = self._pattern, self._forms
        if pattern is None:
            return
        for match in pattern.finditer(data):
            start, end = match.span()
            name, coded = known.get(match.group()) or known[_WRAPPED.sub(b"", match.group())]
            if coded:
                while start and data[start - 1] in _BASE64:
                    start -= 1
                while end < len(data) and data[end] in _BASE64:
                    end += 1
            elif end - start < _ALONE_BYTES and (data[start - 1 : start].isalnum() or data[end : end + 1].isalnum()):
                continue
            yield start, end, name


def _alternation(known: Mapping[bytes, object]) -> Any:
    """Compile one expression for all forms, the longest first: RE2 takes the first that fits."""
    options = re2.Options()
    options.max_mem = 512 << 20
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return re2.compile(b"|".join(_wrappable(form) for form in sorted(known, key=len, reverse=True)), options)


def _wrappable(form: bytes) -> bytes:
    letters = [re2.escape(form[index : index + 1]) for index in range(len(form))]
    return (_WRAP if len(form) <= _LONGEST_WRAPPED and b"\n" not in form else b"").join(letters)


def _joined(data: bytes, spans: list[tuple[int, int, str]], *, markup: bool) -> bytes:
    if not spans:
        return data
    result, position = [], 0
    for start, end, name in spans:
        told = f"<redacted: {_label(name)}>"
        result += [data[position:start], (told.replace("<", "&lt;").replace(">", "&gt;") if markup else told).encode()]
        position = end
    return b"".join([*result, data[position:]])


def _label(name: str) -> str:
    """Make a name safe in any text: it may hold no quote, and not be a secret by its shape."""
    return re.sub(r"[^\w.-]+", "_", name.strip("-"))[:60] or "secret"


_process = Redactor()
learn = _process.learn
learn_environment = _process.learn_environment
learn_variables = _process.learn_variables
learn_inventory = _process.learn_inventory
redact = _process.redact
redact_bytes = _process.redact_bytes
redact_value = _process.redact_value
redact_json = _process.redact_json
copy = _process.copy
known = _process.known
forget = _process.forget
guarded_streams = _process.guarded_streams
