"""What has crossed the network, as the kernel counts it, and whether another machine can be reached at all.

Standard library and `ss` (iproute2) only, and changes nothing. The harness sends this file to a node's Python, as
it does node_state.py.

Sources: ss(8), whose bytes_sent and bytes_received are the kernel's tcp_info; for RDMA the kernel's
Documentation/ABI/stable/sysfs-class-infiniband (port_xmit_data counts words of four bytes) and
drivers/infiniband/hw/erdma/erdma_verbs.c (hw_tx_bytes_cnt).
"""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path
from typing import Any, Iterable

INFINIBAND = "/sys/class/infiniband"
_SS_SECONDS = 10
_WORD_BYTES = 4
# By driver: the counters of bytes, and by how much to multiply them.
_RDMA_COUNTERS = {
    "sent": (("counters/port_xmit_data", _WORD_BYTES), ("hw_counters/hw_tx_bytes_cnt", 1)),
    "received": (("counters/port_rcv_data", _WORD_BYTES), ("hw_counters/hw_rx_bytes_cnt", 1)),
}


def _endpoint(text: str) -> tuple[str, int]:
    """Split ss's `address:port`; a v4 address mapped into v6 becomes the v4 one."""
    address, port = text.rsplit(":", 1)
    address = address.strip("[]").split("%")[0]
    return address.removeprefix("::ffff:"), int(port)


def established() -> list[str] | None:
    """Return what `ss` says of established TCP connections, one a line; None if it cannot be asked."""
    command = ["ss", "-tinpHO", "state", "established"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SS_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None


def tcp_connections(pids: Iterable[int]) -> list[dict[str, Any]] | None:
    """List the established TCP connections of processes.

    Args:
        pids: the processes; their owner has to be the caller's user, unless that is root.

    Returns:
        for each: pids, local and remote address and port, bytes_sent and bytes_received; None when this machine
        has no `ss` or one that does not understand the question.
    """
    wanted, lines = set(pids), established()
    if lines is None:
        return None
    result = []
    for line in lines:
        owners = {int(pid) for pid in re.findall(r"pid=(\d+)", line)}
        if not owners & wanted:
            continue
        # With a state filter ss leaves the state's column out: receive queue, send queue, local, remote.
        fields = line.split()
        (address, port), (remote_address, remote_port) = _endpoint(fields[2]), _endpoint(fields[3])
        counted = dict(re.findall(r"\b(bytes_sent|bytes_received):(\d+)", line))
        result.append(
            {
                "pids": sorted(owners & wanted),
                "address": address,
                "port": port,
                "remote_address": remote_address,
                "remote_port": remote_port,
                "bytes_sent": int(counted.get("bytes_sent", 0)),
                "bytes_received": int(counted.get("bytes_received", 0)),
            }
        )
    return result


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def read_text(path: Path) -> str | None:
    """Return what a file of the kernel's says, without the space around; None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def rdma_ports(root: str = INFINIBAND) -> list[dict[str, Any]]:
    """List the RDMA ports of this machine with what they have carried.

    Args:
        root: the directory of the devices, so that recorded trees can be read.

    Returns:
        for each port: device, port, state (such as "4: ACTIVE"), sent and received in bytes since the device came
        up (None when the driver counts none).
    """
    result = []
    for port in sorted(Path(root).glob("*/ports/*")):
        entry: dict[str, Any] = {
            "device": port.parent.parent.name,
            "port": int(port.name),
            "state": read_text(port / "state"),
        }
        for direction, counters in _RDMA_COUNTERS.items():
            values = [(_number(port / name), factor) for name, factor in counters]
            known = [value * factor for value, factor in values if value is not None]
            entry[direction] = max(known) if known else None
        result.append(entry)
    return result


def reaches(address: str, port: int, seconds: float = 2.0) -> bool:
    """Tell whether another machine answers at all: it takes a connection, or refuses one.

    Args:
        address: where to knock.
        port: at which port.
        seconds: how long to wait.
    """
    try:
        socket.create_connection((address, port), timeout=seconds).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
