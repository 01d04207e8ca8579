"""Things that are made once per node and kept: environments, wheels, models.

A thing is a directory named by a key of all that it was made from. It is complete when its record is there;
it is made in a sibling directory and renamed, under a lock, so that nobody ever sees half of one, also when
two logical nodes share a machine or a build is killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "disagg-e2e.json"


def key_of(*parts: Any) -> str:
    """Return twelve hexadecimal digits that change with any of `parts` (which JSON can hold)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def read_record(directory: Path) -> dict[str, Any] | None:
    """Return what the maker of `directory` recorded; None when it is not complete."""
    try:
        return dict(json.loads((directory / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Mark `directory` as complete."""
    temporary = directory / f"{RECORD}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    temporary.replace(directory / RECORD)


@contextmanager
def locked(directory: Path, seconds: float) -> Iterator[None]:
    """Hold the right to make `directory`.

    Args:
        directory: what is to be made.
        seconds: how long to wait for another maker.

    Raises:
        TimeoutError: another process has held the lock all the time.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    path = directory.parent / f".{directory.name}.lock"
    deadline = time.monotonic() + seconds
    with path.open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"another process has been making {directory} for {seconds:.0f} s (lock: {path})"
                    raise TimeoutError(message) from None
                time.sleep(0.1)  # the poll interval
        yield


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """Give an empty sibling of `directory`, renamed to it when the block ends well and removed when not."""
    building = directory.parent / f".{directory.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        shutil.rmtree(directory, ignore_errors=True)
        building.rename(directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def size_bytes(directory: Path) -> int:
    """Return the bytes that the files below `directory` take on disk."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_blocks * 512
        for folder, _folders, names in os.walk(directory)
        for name in names
    )
