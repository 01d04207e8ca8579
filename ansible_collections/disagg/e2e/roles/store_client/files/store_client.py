"""A client of Mooncake Store behind an HTTP door, for tests that keep objects and look for them.

Standard library and ``mooncake.store`` only. It gives the store a segment of its memory. The bytes of an object follow
from a seed (see `content`), and what is read is told by its SHA-256, so no object crosses the door.

- ``GET /health``: 200 once it has joined the store.
- ``POST /describe {}``: ``segment``, the name of its segment.
- ``POST /put {"objects": [{"key", "seed", "size"}, ...], "replicas", "segments", "soft_pin", "batch"}``: keep objects;
  the last four may be left out. ``codes``: Mooncake's answer for each, for a batch one.
- ``POST /get {"keys": [...], "way": "bytes"|"into"|"batch"}``: ``objects``, for each key ``size`` and ``sha256``, or
  null where nothing came.
- ``POST /exist {"keys": [...], "batch"}``, ``POST /remove {"keys": [...], "force"}``: ``codes``.
- ``POST /where {"keys": [...]}``: ``replicas``, for each key a list of ``endpoint``, ``size`` and ``status``.
- ``POST /check {}``: ``code`` of Mooncake's own health check (0: well, 2: the master cannot be reached).

A wrong request is answered by 400 with ``error``.

Example: ``python store_client.py --host 127.0.0.11 --port 31002 --master 127.0.0.11:50051 --metadata P2PHANDSHAKE
--transport tcp --segment-size 67108864 --buffer-size 33554432``

For tests of tests ``--misbehave`` (several times) makes it do wrong:

- ``wrong-bytes[=SIZE]`` tells another digest of what it got (of objects of that size);
- ``loses[=N]`` gets nothing, once it was asked for N objects;
- ``keeps-nothing[=N]`` puts nothing and tells success, once it has put N objects;
- ``overwrites`` replaces what exists under a key, ``mixes-batch`` swaps the first two objects of a batch;
- ``one-replica`` and ``ignores-pin`` leave out what was asked for;
- ``keeps-removed`` removes nothing and tells success, ``ignores-lease`` removes with force;
- ``denies`` says that nothing exists, ``hides-outage`` that the master is always well.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

_VERBS = ("health", "describe", "put", "get", "exist", "remove", "where", "check")


class Wrong(Exception):  # noqa: N818
    """A request that cannot be followed; the text says why."""


def content(seed: str, size: int) -> bytes:
    """Return the bytes that follow from a seed: SHAKE-128 (FIPS 202) of it, `size` bytes long."""
    return hashlib.shake_128(seed.encode()).digest(size)


class Client:
    """The store, and what it is told to do wrong.

    Args:
        module: ``mooncake.store``.
        store: its MooncakeDistributedStore, set up.
        misbehave: what to do wrong.
    """

    def __init__(self, module: Any, store: Any, misbehave: dict[str, str]) -> None:
        self._module = module
        self._store = store
        self._misbehave = misbehave
        self._one_at_a_time = threading.Lock()
        self._done = {"loses": 0, "keeps-nothing": 0}

    def health(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Say that it has joined the store: it did before the door was opened."""
        return {"status": "ok"}

    def describe(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Say what the master calls its segment."""
        return {"segment": self._store.get_hostname()}

    def check(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Ask Mooncake whether it is well."""
        return {"code": 0 if "hides-outage" in self._misbehave else self._store.health_check()}

    def put(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Keep objects."""
        keys = [str(entry["key"]) for entry in asked["objects"]]
        if self._is_time_to("keeps-nothing", len(keys)):
            return {"codes": [0] * len(keys)}
        values = [content(str(entry["seed"]), int(entry["size"])) for entry in asked["objects"]]
        config = self._config(asked)
        with self._one_at_a_time:
            if asked.get("batch"):
                if "mixes-batch" in self._misbehave:
                    values[:2] = values[1::-1]
                return {"codes": [self._store.put_batch(keys, values, config)]}
            put = self._store.upsert if "overwrites" in self._misbehave else self._store.put
            return {"codes": [put(key, value, config) for key, value in zip(keys, values, strict=True)]}

    def _is_time_to(self, wrong: str, objects: int) -> bool:
        """Tell whether to do a wrong that begins after a number of objects."""
        before = self._done[wrong]
        self._done[wrong] += objects
        return wrong in self._misbehave and before >= int(self._misbehave[wrong] or 0)

    def _config(self, asked: dict[str, Any]) -> Any:
        config = self._module.ReplicateConfig()
        config.replica_num = 1 if "one-replica" in self._misbehave else int(asked.get("replicas", 1))
        config.preferred_segments = [str(name) for name in asked.get("segments", [])]
        if asked.get("soft_pin") and "ignores-pin" not in self._misbehave:
            config.soft_pin_action = self._module.SoftPinAction.ENABLE
        return config

    def get(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Tell what objects are."""
        keys, way = [str(key) for key in asked["keys"]], str(asked.get("way", "bytes"))
        if self._is_time_to("loses", len(keys)):
            return {"objects": [None] * len(keys)}
        with self._one_at_a_time:
            if way == "batch":
                values = list(self._store.get_batch(keys))
            elif way == "into":
                values = [self._get_into(key) for key in keys]
            elif way == "bytes":
                values = [self._store.get(key) for key in keys]
            else:
                raise Wrong(f"way is {way!r}, none of bytes, into and batch")
        return {"objects": [self._told(value) for value in values]}

    def _get_into(self, key: str) -> bytes:
        size = self._store.get_size(key)
        if size <= 0:
            return b""
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        if self._store.register_buffer(address, size) != 0:
            raise Wrong(f"Mooncake does not register {size} bytes")
        try:
            got = self._store.get_into(key, address, size)
            return memory.raw[:got] if got > 0 else b""
        finally:
            self._store.unregister_buffer(address)

    def _told(self, value: bytes) -> dict[str, Any] | None:
        if not value:
            return None
        if self._misbehave.get("wrong-bytes", "no") in ("", str(len(value))):
            value = bytes([value[0] ^ 1]) + value[1:]
        return {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}

    def exist(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Tell whether objects are there."""
        keys = [str(key) for key in asked["keys"]]
        if "denies" in self._misbehave:
            return {"codes": [0] * len(keys)}
        with self._one_at_a_time:
            if asked.get("batch"):
                return {"codes": list(self._store.batch_is_exist(keys))}
            return {"codes": [self._store.is_exist(key) for key in keys]}

    def remove(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Remove objects."""
        keys = [str(key) for key in asked["keys"]]
        if "keeps-removed" in self._misbehave:
            return {"codes": [0] * len(keys)}
        force = bool(asked.get("force", False)) or "ignores-lease" in self._misbehave
        with self._one_at_a_time:
            return {"codes": [self._store.remove(key, force) for key in keys]}

    def where(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Tell where the replicas of objects lie."""
        result = []
        for key in asked["keys"]:
            with self._one_at_a_time:
                found = self._store.get_replica_desc(str(key))
            result.append([self._replica(entry) for entry in found])
        return {"replicas": result}

    @staticmethod
    def _replica(entry: Any) -> dict[str, Any]:
        if not entry.is_memory_replica():
            return {"endpoint": None, "size": None, "status": entry.status.name}
        buffer = entry.get_memory_descriptor().buffer_descriptor
        return {"endpoint": buffer.transport_endpoint, "size": buffer.size, "status": entry.status.name}


class Door(BaseHTTPRequestHandler):
    """HTTP in front of a client: GET /health, POST of the other verbs."""

    protocol_version = "HTTP/1.1"
    client: Client

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
        name = path.removeprefix("/")
        if name not in _VERBS or self.path != path:
            return self._say(404, {"error": f"no {self.path} here"})
        try:
            return self._say(200, getattr(self.client, name)(asked))
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


def wait_for(door: str, seconds: float) -> None:
    """Wait until something listens at ADDRESS:PORT; ends the process when nothing does in time."""
    address, _, port = door.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, int(port)), timeout=1.0).close()
        except OSError as error:
            if time.monotonic() > deadline:
                end(f"no master at {door} after {seconds:g} s: {error}")
            time.sleep(0.05)  # the poll interval; the connection decides
        else:
            return


def join(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Join the store. Returns Mooncake's module and the store; ends the process when it cannot."""
    if arguments.transport == "tcp":
        # Without it Mooncake takes an RDMA device where there is one, whatever protocol it was told.
        os.environ["MC_FORCE_TCP"] = "1"
    try:
        module = importlib.import_module("mooncake.store")
    except ImportError as error:
        end(f"Mooncake cannot be imported: {error}")
    wait_for(arguments.master, arguments.join_seconds)
    store = module.MooncakeDistributedStore()
    code = store.setup(
        arguments.host,
        arguments.metadata,
        arguments.segment_size,
        arguments.buffer_size,
        arguments.transport,
        arguments.devices,
        arguments.master,
    )
    if code != 0:
        end(f"Mooncake's setup with master {arguments.master} and metadata {arguments.metadata} answered {code}")
    return module, store


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser(description="A client of Mooncake Store behind an HTTP door.")
    parser.add_argument("--host", required=True, help="address to listen on and to be reached by")
    parser.add_argument("--port", required=True, type=int, help="port of the HTTP door")
    parser.add_argument("--master", required=True, help="ADDRESS:PORT of the master's RPC")
    parser.add_argument("--metadata", required=True, help="URL of the metadata server, or P2PHANDSHAKE")
    parser.add_argument("--transport", required=True, choices=["tcp", "rdma"])
    parser.add_argument("--devices", default="", help="RDMA devices, with commas between; empty leaves it to Mooncake")
    parser.add_argument("--segment-size", required=True, type=int, help="bytes of memory given to the store")
    parser.add_argument("--buffer-size", required=True, type=int, help="bytes of memory for objects on their way")
    parser.add_argument("--join-seconds", type=float, default=60.0, help="how long to wait for the master")
    parser.add_argument("--misbehave", action="append", default=[], help="do something wrong; see the file's begin")
    arguments = parser.parse_args()
    module, store = join(arguments)
    Door.client = Client(module, store, dict(entry.partition("=")[::2] for entry in arguments.misbehave))
    ThreadingHTTPServer((arguments.host, arguments.port), Door).serve_forever()


if __name__ == "__main__":
    main()
