"""Keep the begin and the end of what is too long: the begin says what was started, the end what went wrong.

Standard library only. Nodes cap their logs with it before they send them, and the harness what goes into a bundle.
"""

from __future__ import annotations

import io
import os
from typing import IO, Iterator

_BLOCK_BYTES = 1024 * 1024


def gap(left_out: int) -> bytes:
    """Return the line that stands where something was left out.

    Args:
        left_out: how many bytes.
    """
    return b"\n[... %d bytes left out here ...]\n" % left_out


def middle_out(data: bytes, limit: int) -> bytes:
    """Return data, without its middle where it is longer than `limit` bytes; the line that says so comes on top."""
    if len(data) <= limit:
        return data
    head, tail = limit // 2, limit - limit // 2
    return data[:head] + gap(len(data) - limit) + data[len(data) - tail :]


def length(size: int, limit: int) -> int:
    """Return how many bytes `Capped` gives of a file of that size."""
    return size if size <= limit else limit + len(gap(size - limit))


class Capped(io.RawIOBase):
    """A file without its middle where it is longer than allowed: exactly `length(size, limit)` bytes to be read.

    Args:
        source: the file, open at its begin.
        size: its size when it was looked at; what has been added since is left out. Where it has become shorter it is
            filled up with zeros, as an archive has promised its length already.
        limit: bytes to keep.
    """

    def __init__(self, source: IO[bytes], size: int, limit: int) -> None:
        super().__init__()
        self._parts = _parts(source, size, limit)
        self._rest = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, all that are left where it is negative, fewer at the end."""
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            part = next(self._parts, None)
            if part is None:
                break
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        size = have if size < 0 else size
        self._rest = whole[size:]
        return whole[:size]


def _parts(source: IO[bytes], size: int, limit: int) -> Iterator[bytes]:
    if size <= limit:
        yield from _blocks(source, size)
        return
    head, tail = limit // 2, limit - limit // 2
    yield from _blocks(source, head)
    yield gap(size - limit)
    source.seek(size - tail, os.SEEK_SET)
    yield from _blocks(source, tail)


def _blocks(source: IO[bytes], count: int) -> Iterator[bytes]:
    while count > 0:
        block = source.read(min(_BLOCK_BYTES, count)) or bytes(min(_BLOCK_BYTES, count))
        yield block
        count -= len(block)
