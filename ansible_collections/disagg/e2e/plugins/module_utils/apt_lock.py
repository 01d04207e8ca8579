"""Who holds the locks of apt and dpkg, asked of the kernel: the lock files themselves name nobody."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Any, Iterable

# The order in which apt takes them (apt's README.locking, and apt-pkg/aptconfiguration).
PATHS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
# struct flock of Linux on 64 bits: l_type, l_whence, l_start, l_len, l_pid (fcntl(2)).
_FLOCK = "hhqqi4x"


def _command(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:200]


def holder(paths: Iterable[str] = PATHS) -> dict[str, Any] | None:
    """Return path, pid and command of the first lock that another process holds; None if none is held.

    A lock that this user may not look at counts as free: whoever installs packages may.
    """
    for path in paths:
        try:
            file = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _whence, _start, _length, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
        finally:
            os.close(file)
        if kind != fcntl.F_UNLCK:
            return {"path": path, "pid": pid, "command": _command(pid)}
    return None
