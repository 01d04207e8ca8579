"""Folders of a process that go with it, and those of processes that were killed before they could remove theirs.

A folder's name says whose it is: the process's id and its start (proc(5), stat field 22), because an id is given again.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "disagg-e2e-"
_NAME = re.compile(rf"{_PREFIX}[a-z]+-(\d+)-(\d+)-\w+")


def make(what: str) -> Path:
    """Make a folder that only this user can look into. Who makes it removes it.

    Args:
        what: one word for its name.
    """
    pid, start = unfinished.own_identity()
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-{pid}-{start}-"))


@contextmanager
def folder(what: str) -> Iterator[Path]:
    """Have a folder within this block."""
    made = make(what)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of processes that are gone: they hold environments and variables of runs."""
    for found in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        named = _NAME.fullmatch(found.name)
        if named and unfinished.identity(int(named[1])) != [int(named[1]), int(named[2])]:
            shutil.rmtree(found, ignore_errors=True)
