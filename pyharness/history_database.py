"""The file of the history: opened, brought up to date, and put aside where it is broken.

It is a help, never a condition: a database that is broken is begun anew, one that is locked or cannot be written is
passed over with a word, and no verdict is lost with either. SQLite's write-ahead log lets several runs write at once
(https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import sys
import zlib
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pyharness import paths
from pyharness.results import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")

# Each entry brings the database from the version before it to its own; PRAGMA user_version keeps where it is.
_MIGRATIONS = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        test_case TEXT NOT NULL,
        inventory TEXT NOT NULL,
        trials TEXT NOT NULL,
        verdict TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL NOT NULL,
        report BLOB NOT NULL
    ) STRICT;
    CREATE INDEX runs_of ON runs (test_case, inventory, run_id);
    """,
)
_WAIT_SECONDS = 10.0  # for another process that writes
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def path() -> Path:
    """Return where the database lies: DISAGG_E2E_HISTORY, or a file in the cache directory."""
    return Path(os.environ.get("DISAGG_E2E_HISTORY") or paths.cache() / "history.sqlite").absolute()


def tell_on_stderr(text: str) -> None:
    """Warn a person at the command line."""
    sys.stderr.write(f"warning: {text}\n")


def use(
    work: Callable[[sqlite3.Connection], _T],
    otherwise: _T,
    *,
    create: bool = False,
    tell: Callable[[str], object] = tell_on_stderr,
) -> _T:
    """Do something with the database; give back `otherwise`, and say why, where that cannot be.

    Args:
        work: what to do, at most twice.
        otherwise: what it gives without a database.
        create: make one if there is none.
        tell: is given a line where something is wrong with it.
    """
    if not create and not path().exists():
        return otherwise
    for attempt in (1, 2):
        try:
            with closing(_open()) as database:
                return work(database)
        except (sqlite3.Error, OSError, ValueError, zlib.error) as error:
            if attempt == 1 and (_is_broken(error) or isinstance(error, ValueError | zlib.error)):
                _put_aside(str(error), tell)
                continue
            tell(f"history: {path()}: {error}; this run goes on without it")
            break
    return otherwise


def _open() -> sqlite3.Connection:
    """Return the database at this program's version.

    Raises:
        OSError: its folder cannot be written, or it belongs to a newer program.
    """
    path().parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path(), timeout=_WAIT_SECONDS)
    try:
        if _version(database) != len(_MIGRATIONS):
            with _alone():
                _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _migrate(database: sqlite3.Connection) -> None:
    version = _version(database)
    if version > len(_MIGRATIONS):
        raise OSError(f"is of version {version}, and this program knows {len(_MIGRATIONS)}")
    database.execute("PRAGMA journal_mode = WAL")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        database.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
    # What kept durations before there was a history. They come back with the next passing runs.
    (path().parent / "durations.json").unlink(missing_ok=True)


def _put_aside(reason: str, tell: Callable[[str], object]) -> None:
    """Move a broken database away, unless another process has done so already."""
    with _alone():
        try:
            with closing(sqlite3.connect(path(), timeout=_WAIT_SECONDS)) as database:
                broken = database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
                broken = broken or not _readable(database)
        except sqlite3.Error as error:
            broken = _is_broken(error)
        if not broken:
            return
        aside = path().with_name(f"{path().name}.broken-{now().replace(':', '')}")
        for suffix in ("", "-wal", "-shm"):
            file = path().with_name(path().name + suffix)
            if file.exists():
                file.replace(aside.with_name(aside.name + suffix))
    tell(f"history: {path()} is broken ({reason}); it is kept as {aside.name}, and a new one is begun")


def _readable(database: sqlite3.Connection) -> bool:
    """Tell whether every report in the database can be unpacked."""
    try:
        for (body,) in database.execute("SELECT report FROM runs"):
            json.loads(zlib.decompress(body))
    except (ValueError, zlib.error):
        return False
    return True


def _is_broken(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BROKEN


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process change the database's form meanwhile."""
    with path().with_name(f"{path().name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
