"""Pack a run's logs on its node: each capped, one that cannot be read told of, and on a full disk in memory instead.

Standard library only: it runs on nodes.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from typing import Iterable, Iterator

from ansible_collections.disagg.e2e.plugins.module_utils import text_limits

# Where there is room when the disk has none: memory.
MEMORY = "/dev/shm"  # noqa: S108 (a file of an own name, which is not followed)
# What a log may take of that memory.
_LEAST_CAP = 1024 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def pack(folders: Iterable[str], archive: str, cap: int) -> str:
    """Pack the files below some directories, all into one tree.

    Args:
        folders: the directories; one that is not there is none.
        archive: where to write them, as a gzipped tar archive.
        cap: bytes that are kept of each file, from its begin and its end.

    Returns:
        the archive's path: another one than asked for where there is no room for it on the disk. Empty when there are
        no logs.

    Raises:
        OSError: there is room nowhere.
    """
    there = [folder for folder in folders if os.path.isdir(folder)]
    if not archive or not there:
        return ""
    try:
        os.makedirs(os.path.dirname(archive), exist_ok=True)
        return _write(there, archive, cap)
    except OSError as error:
        if error.errno not in _NO_ROOM or not os.path.isdir(MEMORY):
            raise
    return _write(
        there, os.path.join(MEMORY, f"disagg-e2e-{os.getpid()}-{os.path.basename(archive)}"), min(cap, _LEAST_CAP)
    )


def _write(folders: list[str], archive: str, cap: int) -> str:
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
            for folder in folders:
                for path in _files(folder):
                    _add(tar, path, "./" + os.path.relpath(path, folder), cap)
    except BaseException:
        os.unlink(archive)
        raise
    return archive


def _files(logs: str) -> Iterator[str]:
    """Yield the regular files, in an order that does not change: what a service has linked to is not its log."""
    for folder, folders, names in os.walk(logs):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def _add(tar: tarfile.TarFile, path: str, name: str, cap: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    try:
        with open(path, "rb") as source:
            found = os.fstat(source.fileno())
            entry.mtime = int(found.st_mtime)
            entry.size = text_limits.length(found.st_size, cap)
            tar.addfile(entry, text_limits.Capped(source, found.st_size, cap))
    except PermissionError as error:
        told = f"(this log cannot be read: {error.strerror})\n".encode()
        entry.size = len(told)
        tar.addfile(entry, io.BytesIO(told))
