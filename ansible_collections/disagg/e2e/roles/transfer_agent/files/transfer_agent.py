"""One end of Mooncake's TransferEngine behind an HTTP door, for tests that move bytes and nothing else.

Standard library and ``mooncake.engine`` only. It holds one registered piece of memory. What lies in it and what is
transferred is said from outside:

- ``GET /health``: 200 once it serves.
- ``POST /describe {}``: ``session`` (what a peer calls it by), ``base`` (address of its memory) and ``capacity``.
- ``POST /fill {"offset", "size", "seed"}``: put bytes there that follow from the seed (see `content`).
- ``POST /hash {"ranges": [[offset, size], ...]}``: SHA-256 of what lies there now, in ``sha256``.
- ``POST /transfer {"direction": "write"|"read", "peer", "local", "remote", "size", "count"}``: move ``count`` pieces
  of ``size`` bytes, one call of ``transfer_sync_write`` or ``transfer_sync_read`` each, that lie one behind the other
  from offset ``local`` on; ``remote`` is an address in the peer's memory. Answers the ``seconds`` of each call, and
  ``code``, Mooncake's first answer that was not 0; nothing is transferred after that one.

A wrong request is answered by 400 with ``error``.

Example: ``python transfer_agent.py --host 127.0.0.11 --port 31001 --transport tcp --capacity 134217728``

For tests of tests ``--misbehave`` (several times) makes it do wrong: ``flip-byte[=SIZE]`` changes a byte of its memory
before it hashes (a range of that size), ``overrun`` a byte beside what it was sent; ``lost-write`` and ``lost-read``
tell success without a transfer, ``same-content`` fills with the bytes of another seed, ``refuse-transfer`` answers code
-1, ``take-anything`` answers 0 whatever Mooncake does, ``die-on-transfer`` ends.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import mmap
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

# What is hashed in so few bytes is taken for the margin of a target; transfers under test are larger.
_MARGIN = 64
_VERBS = ("health", "describe", "fill", "hash", "transfer")


class Wrong(Exception):  # noqa: N818
    """A request that cannot be followed; the text says why."""


def content(seed: str, size: int) -> bytes:
    """Return the bytes that follow from a seed: SHAKE-128 (FIPS 202) of it, `size` bytes long."""
    return hashlib.shake_128(seed.encode()).digest(size)


class Memory:
    """A piece of memory, page-aligned, that Mooncake may read and write.

    Args:
        capacity: its size in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._map = mmap.mmap(-1, capacity)
        self.view = memoryview(self._map)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def range(self, offset: int, size: int) -> memoryview:
        """Return a part of it.

        Raises:
            Wrong: it does not lie in this memory.
        """
        if offset < 0 or size < 0 or offset + size > self.capacity:
            raise Wrong(f"{size} bytes at {offset} do not lie in a memory of {self.capacity}")
        return self.view[offset : offset + size]


class Agent:
    """The memory, Mooncake, and what it is told to do wrong.

    Args:
        engine: Mooncake's TransferEngine, initialised.
        host: address that peers reach it by.
        memory: what is registered with it.
        misbehave: what to do wrong.
    """

    def __init__(self, engine: Any, host: str, memory: Memory, misbehave: dict[str, str]) -> None:
        self._engine = engine
        self._memory = memory
        self._misbehave = misbehave
        # One transfer at a time: what is measured is Mooncake's and not its neighbour's.
        self._transfers = threading.Lock()
        self.session = f"{host}:{engine.get_rpc_port()}"

    def health(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Say that it serves: Mooncake was initialised before the door was opened."""
        return {"status": "ok"}

    def describe(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Say what a peer has to know."""
        return {"session": self.session, "base": self._memory.base, "capacity": self._memory.capacity}

    def fill(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Put a seed's bytes into the memory."""
        seed = "another" if "same-content" in self._misbehave else str(asked["seed"])
        target = self._memory.range(int(asked["offset"]), int(asked["size"]))
        target[:] = content(seed, len(target))
        return {"filled": len(target)}

    def hash(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Tell what lies in parts of the memory."""
        found = []
        for offset, size in asked["ranges"]:
            part = self._memory.range(int(offset), int(size))
            if size and self._misbehave.get("flip-byte", "no") in ("", str(size)):
                part[size // 2] ^= 1
            if "overrun" in self._misbehave and 0 < size <= _MARGIN:
                part[0] ^= 1
            found.append(hashlib.sha256(part).hexdigest())
        return {"sha256": found}

    def transfer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Move pieces to or from a peer, one after the other."""
        direction, peer = str(asked["direction"]), str(asked["peer"])
        if direction not in ("read", "write"):
            raise Wrong(f"direction is {direction!r}, neither read nor write")
        size, count = int(asked["size"]), int(asked["count"])
        local, remote = int(asked["local"]), int(asked["remote"])
        self._memory.range(local, size * count)
        if "die-on-transfer" in self._misbehave:
            os._exit(1)
        if "refuse-transfer" in self._misbehave:
            return {"code": -1, "seconds": []}
        if f"lost-{direction}" in self._misbehave:
            return {"code": 0, "seconds": [0.001] * count}
        move = self._engine.transfer_sync_write if direction == "write" else self._engine.transfer_sync_read
        seconds = []
        with self._transfers:
            for index in range(count):
                started = time.perf_counter()
                code = move(peer, self._memory.base + local + index * size, remote + index * size, size)
                seconds.append(time.perf_counter() - started)
                if code != 0 and "take-anything" not in self._misbehave:
                    return {"code": code, "seconds": seconds}
        return {"code": 0, "seconds": seconds}


class Door(BaseHTTPRequestHandler):
    """HTTP in front of an agent: GET /health, POST of the other verbs."""

    protocol_version = "HTTP/1.1"
    agent: Agent

    def do_GET(self) -> None:
        """Answer /health."""
        self._answer("/health", {})

    def do_POST(self) -> None:
        """Answer the other verbs."""
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        except ValueError:
            return self._say(400, {"error": "the body is no JSON"})
        return self._answer(self.path, asked)

    def _answer(self, path: str, asked: Any) -> None:
        verbs = {name: getattr(self.agent, name) for name in _VERBS}
        verb = verbs.get(path.removeprefix("/"))
        if verb is None or self.path != path:
            return self._say(404, {"error": f"no {self.path} here"})
        try:
            return self._say(200, verb(asked))
        except KeyError as error:
            return self._say(400, {"error": f"{error} is missing"})
        except (Wrong, TypeError, ValueError) as error:
            return self._say(400, {"error": str(error)})

    def _say(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def end(message: str) -> NoReturn:
    """End, and leave one line in the log that says why."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    os._exit(1)  # Mooncake's threads may keep an ordinary exit waiting


def start_engine(host: str, transport: str, devices: str, memory: Memory) -> Any:
    """Return a TransferEngine that has the memory registered; ends the process when there is none."""
    if transport == "tcp":
        # Without it Mooncake takes an RDMA device where there is one, whatever protocol it was told.
        os.environ["MC_FORCE_TCP"] = "1"
    try:
        engine = importlib.import_module("mooncake.engine").TransferEngine()
    except ImportError as error:
        end(f"Mooncake cannot be imported: {error}")
    code = engine.initialize(host, "P2PHANDSHAKE", transport, devices)
    if code != 0:
        end(f"Mooncake's initialize({host!r}, transport {transport!r}, devices {devices!r}) answered {code}")
    code = engine.register_memory(memory.base, memory.capacity)
    if code != 0:
        end(f"Mooncake's register_memory of {memory.capacity} bytes answered {code}")
    return engine


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser(description="One end of Mooncake's TransferEngine behind an HTTP door.")
    parser.add_argument("--host", required=True, help="address to listen on and to be reached by")
    parser.add_argument("--port", required=True, type=int, help="port of the HTTP door")
    parser.add_argument("--transport", required=True, choices=["tcp", "rdma"])
    parser.add_argument("--devices", default="", help="RDMA devices, with commas between; empty leaves it to Mooncake")
    parser.add_argument("--capacity", required=True, type=int, help="bytes of memory")
    parser.add_argument("--misbehave", action="append", default=[], help="do something wrong; see the file's begin")
    arguments = parser.parse_args()
    memory = Memory(arguments.capacity)
    engine = start_engine(arguments.host, arguments.transport, arguments.devices, memory)
    wrong = dict(entry.partition("=")[::2] for entry in arguments.misbehave)
    Door.agent = Agent(engine, arguments.host, memory, wrong)
    ThreadingHTTPServer((arguments.host, arguments.port), Door).serve_forever()


if __name__ == "__main__":
    main()
