"""bundle.tar.zst: one file with all that there is to say about a run that did not pass, to hand to who mends it.

Made on fail and on error, and on a pass only where it is asked for: of a pass there is nothing to diagnose, and a
bundle per green run would fill the disks of CI. It is read from the results folder, whose files are without secrets
already, and goes through the redaction once more: others may have put files there.

In it, below a folder named after the test case and the run, in this order: manifest.json (each file with its size, its
SHA-256 and whether its middle was left out), changes.json, versions.json, and the results as they lie in the folder,
but for the wheel and an earlier bundle. `tar --zstd -xf bundle.tar.zst` unpacks it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import zstandard

from pyharness import redaction
from pyharness.from_collection import text_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyharness.results import Report

NAME = "bundle.tar.zst"
# Bytes that are kept of all files together before they are compressed, and of one of them, from begin and end.
TOTAL_BYTES = 200 * 1024 * 1024
FILE_BYTES = 32 * 1024 * 1024
# So much of every file is kept even where there are too many of them.
_LEAST_BYTES = 4 * 1024
# The report first: a bundle that was cut off while it was sent still says what went wrong.
_FIRST = ("report.json", "test_results.json", "junit.xml", "report.html", "deployment.json", "journal.jsonl", ".shrc")
_NOT_IN_IT = frozenset({"whls"})
_MARKUP = (".html", ".xml")
_LEVEL = 6


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class _Collected:
    """Files for the archive, redacted and capped, in a temporary file of no name one after the other."""

    def __init__(self, store: IO[bytes]) -> None:
        self._store = store
        self._end = 0
        self.manifest: list[dict[str, object]] = []
        self._places: list[tuple[str, int, int]] = []

    def add(self, name: str, source: IO[bytes], size: int, limit: int) -> None:
        """Take a file of `size` bytes, and keep `limit` bytes of it."""
        capped = text_limits.Capped(source, size, limit)
        self._store.seek(self._end)
        redaction.copy(capped, self._store, markup=name.endswith(_MARKUP))
        begin, self._end = self._end, self._store.tell()
        entry = {"file": name, "size": self._end - begin, "sha256": self._digest(begin), "truncated": size > limit}
        self.manifest.append({**entry, "original_size": size} if size > limit else entry)
        self._places.append((name, begin, self._end - begin))

    def unreadable(self, name: str, reason: str) -> None:
        """Note a file that cannot be read."""
        self.manifest.append({"file": name, "size": None, "sha256": None, "truncated": False, "problem": reason})

    def files(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Yield name, size and content of each file; the content is good until the next."""
        for name, begin, size in self._places:
            self._store.seek(begin)
            yield name, size, self._store

    def _digest(self, begin: int) -> str:
        digest = hashlib.sha256()
        self._store.seek(begin)
        while block := self._store.read(1024 * 1024):
            digest.update(block)
        return digest.hexdigest()


def write(
    folder: Path,
    report: Report,
    changes: Sequence[Mapping[str, object]] = (),
    tell: Callable[[str], object] = _say,
) -> Path | None:
    """Write the bundle of a run into its results, whole or not at all.

    Args:
        folder: the test case's results, RESULTS/<case>.
        report: what came of the run.
        changes: what is not as it was in the last green run, as JSON.
        tell: told in a line why there is none, where it cannot be written.

    Returns:
        its path; None where it could not be written.
    """
    target = folder / NAME
    temporary = folder / f".{NAME}.{os.getpid()}"
    try:
        with tempfile.TemporaryFile(dir=folder) as store:
            collected = _collect(folder, report, changes, store)
            with temporary.open("wb") as stream:
                _pack(f"{report.test_case}-{report.run_id}", collected, stream)
        temporary.replace(target)
    except OSError as error:
        tell(f"  no {NAME}: {error.strerror or error}: {error.filename or folder}; the results are in {folder}")
        return None
    finally:  # after Ctrl-C too
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def _collect(folder: Path, report: Report, changes: Sequence[Mapping[str, object]], store: IO[bytes]) -> _Collected:
    collected = _Collected(store)
    documents: dict[str, object] = {"changes.json": list(changes), "versions.json": report.to_json()["versions"]}
    for name, document in documents.items():
        text = redaction.redact_json(json.dumps(document, indent=2, default=str) + "\n").encode()
        collected.add(name, io.BytesIO(text), len(text), len(text))
    files = _files(folder)
    sizes = [_size(path) for path in files]
    limit = _limit(sizes)
    for path, size in zip(files, sizes, strict=True):
        name = str(path.relative_to(folder))
        try:
            with path.open("rb") as source:
                collected.add(name, source, size, limit)
        except (PermissionError, FileNotFoundError) as error:
            collected.unreadable(name, error.strerror or str(error))
    return collected


def _files(folder: Path) -> list[Path]:
    """Return the files of a results folder that belong into a bundle, in an order that does not change."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.name != NAME
        and path.relative_to(folder).parts[0] not in _NOT_IN_IT
        # Files that are being written, and what a run that goes on needs.
        and (path.name == ".shrc" or not path.relative_to(folder).parts[0].startswith("."))
    ]
    order = {name: number for number, name in enumerate(_FIRST)}

    def place(path: Path) -> tuple[int, str]:
        name = str(path.relative_to(folder))
        return order.get(name, len(order)), name

    return sorted(found, key=place)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _limit(sizes: Sequence[int]) -> int:
    """Return how many bytes each file may have so that all together stay within the total.

    The small files are whole, and what they do not need is the large ones': the same limit for all that are above it.
    """
    room, limit = TOTAL_BYTES, FILE_BYTES
    for number, size in enumerate(sorted(sizes)):
        limit = room // (len(sizes) - number)
        if size > limit:
            break
        room -= size
    return max(_LEAST_BYTES, min(limit, FILE_BYTES)) if sum(sizes) > TOTAL_BYTES else FILE_BYTES


def _pack(root: str, collected: _Collected, stream: IO[bytes]) -> None:
    """Write the archive: the same bytes for the same files, so without times and owners."""
    manifest = json.dumps({"schema_version": 1, "files": collected.manifest}, indent=2).encode() + b"\n"
    with (
        zstandard.ZstdCompressor(level=_LEVEL).stream_writer(stream, closefd=False) as packer,
        tarfile.open(fileobj=packer, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add(tar, f"{root}/manifest.json", len(manifest), io.BytesIO(manifest))
        for name, size, content in collected.files():
            _add(tar, f"{root}/{name}", size, content)


def _add(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    tar.addfile(entry, content)
