"""Ports of a node that a run has leased: a small process holds them, from the moment they are found to the run's end.

It holds each port by a socket that is bound to all addresses of the node and never listens. Bound so, nobody else gets
the port: not another holder, and not the kernel's own choice for a connection that goes out. Right before a service is
started its ports are *opened*: SO_REUSEADDR is set on the sockets that hold them. Then a program that sets this option
itself, as servers do (asyncio, Go, Rust's tokio and std, ZeroMQ), can bind and listen on the port, while it stays held
against everybody who does not (socket(7); net/ipv4/inet_connection_sock.c, inet_csk_bind_conflict). So there is no
moment in which a port is nobody's, and a service that is killed finds its port again when it is started again.

What remains is another program that sets the option too, and binds this very port between its opening and the
service's own bind: the race that can be lost. Then the port is leased anew (`renew`).

The holder is asked over a Unix socket in the run's directory, a line of JSON each way. It carries the marks of its run
as all processes of a run do, so that teardown ends it, and it ends by itself when that directory is gone. A holder that
is gone has left nothing behind: the kernel gives the ports back. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SERVICE = "ports"
SOCKET_NAME = "ports.sock"
# Below what kernels choose themselves for outgoing connections (ip_local_port_range begins at 32768), and away from the
# numbers that servers have by custom and that declarations name.
FIRST, LAST = 20000, 28999
_START_SECONDS = 10.0
_ASK_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_POLL_SECONDS = 0.01


class HolderError(Exception):
    """The holder cannot be asked, or cannot do what it is asked; the text says why."""


class Holder:
    """The ports of one run on one node.

    Args:
        first: the lowest port that may be leased.
        last: the highest.
    """

    def __init__(self, first: int = FIRST, last: int = LAST) -> None:
        self._range = range(first, last + 1)
        self._held: dict[str, socket.socket] = {}
        self._opened: set[str] = set()
        self._lost: dict[str, list[int]] = {}

    def answer(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        """Do what is asked, and tell what is held.

        Args:
            asked: names of ports by what is wanted: `hold` those that are not held yet, `renew` takes other ports for
                them (they were lost), `open` lets a service listen on them.

        Returns:
            ports (by name), opened (names), lost (by name the ports that it had before).

        Raises:
            OSError: there are not so many free ports.
        """
        for name in asked.get("renew", []):
            if name in self._held:
                lost = self._held.pop(name)
                self._lost.setdefault(name, []).append(lost.getsockname()[1])
                lost.close()
                self._opened.discard(name)
        for name in (*asked.get("hold", []), *asked.get("renew", [])):
            if name not in self._held:
                self._held[name] = self._bound()
        for name in asked.get("open", []):
            if name in self._held and name not in self._opened:
                self._held[name].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._opened.add(name)
        ports = {name: held.getsockname()[1] for name, held in self._held.items()}
        return {"ports": ports, "opened": sorted(self._opened), "lost": self._lost}

    def _bound(self) -> socket.socket:
        """Return a socket on a port that was nobody's, on any address."""
        mine = {port for ports in self._lost.values() for port in ports}
        # From a place of its own: two that look at the same time then rarely want the same.
        begin = random.randrange(len(self._range))  # noqa: S311 (no secret)
        for place in range(len(self._range)):
            port = self._range[(begin + place) % len(self._range)]
            if port in mine:
                continue
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                held.bind(("", port))
            except OSError:
                held.close()
                continue
            return held
        raise OSError(f"none of the ports {self._range[0]} to {self._range[-1]} is free")


def serve(run_dir: str) -> None:
    """Hold ports and answer until the run's directory is gone.

    Args:
        run_dir: the run's directory on this node.
    """
    path, holder = Path(run_dir) / SOCKET_NAME, Holder()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    building = path.with_suffix(f".{os.getpid()}")
    door.bind(str(building))
    door.listen(16)
    door.settimeout(_LOOK_SECONDS)
    os.rename(building, path)  # whoever finds it may ask
    while path.exists():
        with contextlib.suppress(TimeoutError, OSError, ValueError):
            connection, _ = door.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                connection.settimeout(_ASK_SECONDS)
                try:
                    told = holder.answer(json.loads(stream.readline()))
                except OSError as error:
                    told = {"error": str(error)}
                stream.write(json.dumps(told) + "\n")


def ask(run_dir: str, **asked: list[str]) -> dict[str, Any]:
    """Ask the holder of a run on this node.

    Args:
        run_dir: the run's directory on this node.
        asked: see `Holder.answer`; nothing asks what is held.

    Returns:
        see `Holder.answer`.

    Raises:
        HolderError: there is none, or it cannot do it.
    """
    path = Path(run_dir) / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ASK_SECONDS)
            connection.connect(str(path))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps(asked) + "\n")
                stream.flush()
                told: dict[str, Any] = json.loads(stream.readline() or '{"error": "it has ended"}')
    except (OSError, ValueError) as error:
        raise HolderError(f"who holds the run's ports does not answer at {path}: {error}") from error
    if "error" in told:
        raise HolderError(str(told["error"]))
    return told


def start(run_dir: str, environment: dict[str, str], source: str) -> None:
    """Start the holder of a run on this node, unless it is there.

    Args:
        run_dir: the run's directory on this node; made if it is not there.
        environment: the holder's, with the marks of its run.
        source: the text of this file.

    Raises:
        HolderError: it did not start.
    """
    with contextlib.suppress(HolderError):
        ask(run_dir)
        return
    folder = Path(run_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    program, log = folder / "port_holder.py", folder / "port_holder.log"
    program.write_text(source, encoding="utf-8")
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", str(program), run_dir],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(HolderError):
            ask(run_dir)
            return
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise HolderError(f"what is to hold the run's ports did not start; its last word ({log}): {said[0]}")
        time.sleep(_POLL_SECONDS)  # the poll interval; the condition and the deadline are above


if __name__ == "__main__":
    serve(sys.argv[1])
