"""The simulator's use of the real Mooncake TransferEngine."""

import ctypes
import importlib
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

SLOTS: Final = 8
"""KV caches that one engine can hold at the same time; a further request waits for a free slot."""


class MooncakeError(Exception):
    """Mooncake is missing, or refuses what it was asked."""


class Slot:
    """A registered piece of memory with room for one KV cache."""

    def __init__(self, size: int) -> None:
        """Allocate it.

        Args:
            size: Its capacity in bytes.
        """
        self._memory = ctypes.create_string_buffer(size)
        self.address = ctypes.addressof(self._memory)
        self.size = size
        self.reusable = True
        """False once a peer may still write here at any time: the slot is then never handed out again."""

    def clear(self, length: int) -> None:
        """Zero the first bytes of the slot."""
        ctypes.memset(self.address, 0, length)

    def write(self, content: bytes) -> None:
        """Put bytes at the start of the slot."""
        ctypes.memmove(self.address, content, len(content))

    def read(self, length: int) -> bytes:
        """Get the first bytes of the slot."""
        return ctypes.string_at(self.address, length)


class TransferEndpoint:
    """One process's end of the KV transfer, with memory registered once at start as in SGLang."""

    def __init__(self, host: str, transport: str, slot_size: int) -> None:
        """Initialise Mooncake and register the memory.

        Args:
            host: Address to announce to peers.
            transport: ``tcp`` or ``rdma``; with ``rdma`` and no device Mooncake falls back to TCP in silence.
            slot_size: Bytes of the largest KV cache.

        Raises:
            MooncakeError: Mooncake cannot be imported, initialised or given the memory.
        """
        if transport == "tcp":
            # Without it Mooncake takes an RDMA device where there is one, whatever protocol it was told.
            os.environ["MC_FORCE_TCP"] = "1"
        try:
            engine_class = importlib.import_module("mooncake.engine").TransferEngine
        except ImportError as error:
            message = f"Mooncake cannot be imported: {error}"
            raise MooncakeError(message) from error
        self._engine: Any = engine_class()
        code = self._engine.initialize(host, "P2PHANDSHAKE", transport, "")
        if code != 0:
            message = f"Mooncake's initialize({host!r}, transport {transport!r}) answered {code}"
            raise MooncakeError(message)
        self.session: Final = f"{host}:{self._engine.get_rpc_port()}"
        self._free: queue.Queue[Slot] = queue.Queue()
        for _ in range(SLOTS):
            slot = Slot(slot_size)
            code = self._engine.register_memory(slot.address, slot.size)
            if code != 0:
                message = f"Mooncake's register_memory of {slot.size} bytes answered {code}"
                raise MooncakeError(message)
            self._free.put(slot)

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Lend a slot; it may still hold an earlier request's bytes."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            if slot.reusable:
                self._free.put(slot)

    def write(self, slot: Slot, length: int, session: str, address: int) -> None:
        """Write the first bytes of a slot into a peer's memory, and wait until they are there.

        Args:
            slot: The source.
            length: Bytes to write; with 0 nothing happens.
            session: The peer, as its `session` gives it.
            address: Where in the peer's registered memory.

        Raises:
            MooncakeError: The transfer failed.
        """
        if length == 0:
            return
        code = self._engine.transfer_sync_write(session, slot.address, address, length)
        if code != 0:
            message = f"Mooncake's transfer_sync_write of {length} bytes to {session} answered {code}"
            raise MooncakeError(message)
