"""One rank of Mooncake's process group behind an HTTP door, for tests of its collective operations.

torch and ``mooncake.pg`` of Mooncake's CUDA wheel. The backend is ``mooncake-cpu``, which Mooncake registers with
torch.distributed for tensors in memory (its documentation: "Mooncake EP & Mooncake PG"). What the ranks give follows
from a seed, so that whoever asks can say what has to come out without having been one of them.

- ``GET /health``: 200 once the rank has joined the group, 503 before.
- ``POST /describe {}``: rank, backend, world_size, active_ranks (by rank, whether it takes part) and torch's version.
- ``POST /collective {"operation", "dtype", "elements", "seed", "root"}``: take part in an operation and tell its
  ``blocks``: for each rank that it brought something of (one for a sum) the SHA-256 of the numbers' bytes, the first
  few, and their total. Also the ``seconds``, Mooncake's ``local_success`` and ``failed_ranks`` for this operation, and
  ``active_ranks`` after it. ``refused`` holds the words instead where the backend does not do such an operation.

All ranks of the group have to be asked for the same, side by side. A wrong request is answered by 400 with ``error``.

Example: ``python rank_agent.py --rank 0 --ranks 2 --host 127.0.0.11 --port 30011 --store 127.0.0.11:30010``

For tests of tests ``--misbehave`` (several times) makes a rank do wrong: ``wrong-number`` adds one to the first number
that it gives, ``wrong-after-loss`` does so once a rank was lost, ``hides-loss`` tells as if none had been,
``silent-after-loss`` does not answer the request during which one was lost, ``other-backend`` joins with torch's gloo.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from mooncake import pg

MISBEHAVIOURS = ("wrong-number", "wrong-after-loss", "hides-loss", "silent-after-loss", "other-backend")
# Every number is one of 0 to 31: the sum of four ranks' fits into every type, and is exact in all of them.
_MASK = 31
_LOW_BITS = bytes(value & _MASK for value in range(256))
_SHOWN = 8
# Longer than any reconciliation of Mooncake's: it is Mooncake that has to find out that a rank is gone.
_TORCH_TIMEOUT = timedelta(minutes=10)
_SECOND_US = 1_000_000


class Wrong(Exception):  # noqa: N818
    """A request that cannot be followed; the text says why."""


def content(seed: str, rank: int, elements: int) -> bytes:
    """Return the numbers that a rank gives, a byte each: the low five bits of SHAKE-128 (FIPS 202) of `seed/rank`."""
    return hashlib.shake_128(f"{seed}/{rank}".encode()).digest(elements).translate(_LOW_BITS)


class Rank:
    """A member of the group.

    Args:
        options: the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._wrong = set(options.misbehave)
        # One operation at a time: all ranks have to be in the same one.
        self._operation = threading.Lock()
        self._lost = False
        self.joined = threading.Event()

    def join(self) -> None:
        """Join the group; returns when all ranks have."""
        options = self._options
        backend = "gloo" if "other-backend" in self._wrong else "mooncake-cpu"
        if backend != "gloo":
            pg.set_host_ip(options.host)
            if options.devices:
                pg.set_device_filter(options.devices.split(","))
            if options.collective_timeout:
                pg.set_collective_timeout_us(int(options.collective_timeout * _SECOND_US))
            if options.reconciliation_window:
                pg.set_fault_reconciliation_window_us(int(options.reconciliation_window * _SECOND_US))
        dist.init_process_group(
            backend,
            init_method=f"tcp://{options.store}",
            rank=options.rank,
            world_size=options.ranks,
            timeout=_TORCH_TIMEOUT,
        )
        self.joined.set()

    def describe(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Say who it is, and how torch and Mooncake see the group."""
        return {
            "rank": dist.get_rank(),
            "backend": str(dist.get_backend()),
            "world_size": dist.get_world_size(),
            "active_ranks": self._active(),
            "torch": torch.__version__,
        }

    def collective(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Take part in an operation."""
        operation = getattr(self, f"_{asked.get('operation')}", None)
        dtype = getattr(torch, str(asked.get("dtype")), None)
        if operation is None or str(asked.get("operation")) not in OPERATIONS or not isinstance(dtype, torch.dtype):
            raise Wrong(f"operation has to be one of {', '.join(OPERATIONS)}, and dtype one of torch's")
        with self._operation:
            started = time.monotonic()
            try:
                work, blocks = operation(str(asked["seed"]), int(asked["elements"]), dtype, int(asked.get("root", 0)))
                work.wait()
            except RuntimeError as error:
                return {"refused": str(error).splitlines()[0], "seconds": time.monotonic() - started}
            return self._told(work, blocks, time.monotonic() - started)

    def _told(self, work: Any, blocks: list[torch.Tensor], seconds: float) -> dict[str, Any]:
        success, failed = True, []
        if "other-backend" not in self._wrong:
            success = pg.get_local_success(work)
            failed = [rank for rank, lost in enumerate(pg.get_failed_ranks_hint(work).tolist()) if lost]
        if failed:
            self._lost = True
            if "silent-after-loss" in self._wrong:
                threading.Event().wait()
            if "hides-loss" in self._wrong:
                success, failed = True, []
        return {
            "blocks": [_summary(block) for block in blocks],
            "seconds": seconds,
            "local_success": success,
            "failed_ranks": failed,
            "active_ranks": self._active(),
        }

    def _active(self) -> list[bool]:
        """Return by rank whether it takes part."""
        if {"other-backend", "hides-loss"} & self._wrong:
            return [True] * self._options.ranks
        return [bool(active) for active in pg.get_active_ranks(dist.group.WORLD).tolist()]

    def _gives(self, seed: str, elements: int, dtype: torch.dtype) -> torch.Tensor:
        given = torch.frombuffer(bytearray(content(seed, dist.get_rank(), elements)), dtype=torch.uint8).to(dtype)
        if "wrong-number" in self._wrong or ("wrong-after-loss" in self._wrong and self._lost):
            given[0] += 1
        return given

    # -- operations: each returns torch's handle of it, and what it brings, by rank where it brings something of each

    def _all_reduce(self, seed: str, elements: int, dtype: torch.dtype, _root: int) -> tuple[Any, list[torch.Tensor]]:
        numbers = self._gives(seed, elements, dtype)
        return dist.all_reduce(numbers, async_op=True), [numbers]

    def _broadcast(self, seed: str, elements: int, dtype: torch.dtype, root: int) -> tuple[Any, list[torch.Tensor]]:
        mine = dist.get_rank() == root
        numbers = self._gives(seed, elements, dtype) if mine else torch.zeros(elements, dtype=dtype)
        return dist.broadcast(numbers, src=root, async_op=True), [numbers]

    def _all_gather(self, seed: str, elements: int, dtype: torch.dtype, _root: int) -> tuple[Any, list[torch.Tensor]]:
        size = dist.get_world_size()
        gathered = torch.zeros(size * elements, dtype=dtype)
        work = dist.all_gather_into_tensor(gathered, self._gives(seed, elements, dtype), async_op=True)
        return work, list(gathered.view(size, elements))

    def _all_to_all(self, seed: str, elements: int, dtype: torch.dtype, _root: int) -> tuple[Any, list[torch.Tensor]]:
        size = dist.get_world_size()
        given = [self._gives(f"{seed}/{peer}", elements, dtype) for peer in range(size)]
        taken = [torch.zeros(elements, dtype=dtype) for _peer in range(size)]
        return dist.all_to_all(taken, given, async_op=True), taken

    def _reduce_scatter(
        self, seed: str, elements: int, dtype: torch.dtype, _root: int
    ) -> tuple[Any, list[torch.Tensor]]:
        given = torch.cat([self._gives(f"{seed}/{peer}", elements, dtype) for peer in range(dist.get_world_size())])
        taken = torch.zeros(elements, dtype=dtype)
        return dist.reduce_scatter_tensor(taken, given, async_op=True), [taken]


OPERATIONS = ("all_reduce", "broadcast", "all_gather", "all_to_all", "reduce_scatter")


def _summary(numbers: torch.Tensor) -> dict[str, Any]:
    """Return what tells numbers from others without sending them all."""
    raw = numbers.contiguous().view(torch.uint8).numpy().tobytes()
    return {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "first": numbers[:_SHOWN].tolist(),
        "total": float(numbers.to(torch.float64).sum()),
    }


class Door(BaseHTTPRequestHandler):
    """The HTTP door of a rank."""

    rank: Rank

    def do_GET(self) -> None:
        """Answer ``/health``."""
        ready = self.rank.joined.is_set()
        self._answer(200 if ready else 503, {"status": "ok" if ready else "joining"})

    def do_POST(self) -> None:
        """Answer one of the verbs."""
        verbs = {"/describe": self.rank.describe, "/collective": self.rank.collective}
        verb = verbs.get(self.path)
        if verb is None:
            self._answer(404, {"error": f"there is {', '.join(verbs)}, not {self.path}"})
            return
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            self._answer(200, verb(asked))
        except (Wrong, ValueError, TypeError, KeyError) as error:
            self._answer(400, {"error": f"{type(error).__name__}: {error}"})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One rank of Mooncake's process group behind an HTTP door.")
    parser.add_argument("--rank", type=int, required=True, help="its number in the group")
    parser.add_argument("--ranks", type=int, required=True, help="how many there are")
    parser.add_argument("--host", required=True, help="address of the door, and where other ranks reach it")
    parser.add_argument("--port", type=int, required=True, help="port of the door")
    parser.add_argument("--store", required=True, metavar="ADDRESS:PORT", help="where rank 0 has the ranks meet")
    parser.add_argument("--devices", default="", help="RDMA devices, with commas; none leaves the choice to Mooncake")
    parser.add_argument(
        "--collective-timeout", type=float, default=0.0, help="seconds until a peer counts as silent; 0: Mooncake's own"
    )
    parser.add_argument(
        "--reconciliation-window",
        type=float,
        default=0.0,
        help="seconds from a failure to the decision who is still there; 0: Mooncake's own, 30",
    )
    parser.add_argument("--misbehave", action="append", default=[], choices=MISBEHAVIOURS, help="for tests of tests")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Join the group, and serve until it is ended.

    Args:
        arguments: the command line without the program, by default the process's own.
    """
    options = _options(arguments)
    Door.rank = Rank(options)
    server = ThreadingHTTPServer((options.host, options.port), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Door.rank.join()
    while True:
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
