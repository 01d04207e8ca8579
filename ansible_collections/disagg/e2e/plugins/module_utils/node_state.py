"""What runs on this machine, read from /proc: processes, sockets, loaded libraries.

Standard library only, and changes nothing: Ansible modules import it on a node, and the harness sends this
very file to a node's Python to take its evidence with (see pyharness/verification/node_probe.py). So both
sides have one notion of "a process of this run".

A process belongs to a run when its environment holds ``DISAGG_E2E_RUN=<run id>``. Children inherit it through
fork, exec and setsid alike; services are started with ``SPT_NOENV=1`` so that the setproctitle library, which
SGLang uses, leaves that part of memory readable.

Source of the formats: proc(5), and Documentation/networking/proc_net_tcp.rst of the Linux kernel.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Iterable, Iterator

RUN_VARIABLE = "DISAGG_E2E_RUN"
NODE_VARIABLE = "DISAGG_E2E_NODE"
SERVICE_VARIABLE = "DISAGG_E2E_SERVICE"
# The file of the lease that it was started under, where there was one.
LEASE_VARIABLE = "DISAGG_E2E_LEASE"

TCP_LISTEN = "0A"
_PROC = Path("/proc")
_MAX_COMMAND = 300


def _read(path: Path) -> bytes:
    """Read a file of /proc; empty when the process went away or belongs to another user."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def boot_time() -> float:
    """Return when the kernel booted, in seconds since the epoch."""
    for line in _read(_PROC / "stat").decode().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def environment(pid: int) -> dict[str, str]:
    """Return the environment that process `pid` was started with; empty when it cannot be read."""
    raw = _read(_PROC / str(pid) / "environ").decode("utf-8", "replace")
    return dict(item.split("=", 1) for item in raw.split("\0") if "=" in item)


def process(pid: int, booted: float | None = None) -> dict[str, Any] | None:
    """Describe process `pid`.

    Args:
        pid: the process id.
        booted: `boot_time()` where the caller has it already.

    Returns:
        pid, ppid, state (one letter), started_at (seconds since the epoch), command, run, node and service
        (None for a process of others); None when there is no such process.
    """
    stat = _read(_PROC / str(pid) / "stat").decode("utf-8", "replace")
    if not stat:
        return None
    # The name in parentheses may hold spaces and parentheses itself: count from the last one.
    fields = stat[stat.rindex(")") + 2 :].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    command = _read(_PROC / str(pid) / "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
    variables = environment(pid)
    return {
        "pid": pid,
        "ppid": int(fields[1]),
        "state": fields[0],
        "started_at": round((boot_time() if booted is None else booted) + since_boot, 2),
        "command": command[:_MAX_COMMAND],
        "run": variables.get(RUN_VARIABLE),
        "node": variables.get(NODE_VARIABLE),
        "service": variables.get(SERVICE_VARIABLE),
    }


def processes() -> Iterator[dict[str, Any]]:
    """Describe every process that can be seen."""
    booted = boot_time()
    for pid in _pids():
        found = process(pid, booted)
        if found is not None:
            yield found


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and has not ended; one that has ended may wait for its parent to take note."""
    stat = _read(_PROC / str(pid) / "stat").decode("utf-8", "replace")
    return bool(stat) and stat[stat.rindex(")") + 2] not in "ZX"


def own_line(pid: int | None = None) -> set[int]:
    """Return the ids of `pid` (default: this process) and all its ancestors."""
    line: set[int] = set()
    current = os.getpid() if pid is None else pid
    while current > 1 and current not in line:
        line.add(current)
        found = process(current, 0.0)
        if found is None:
            break
        current = found["ppid"]
    return line


def run_processes(run: str | None = None, node: str | None = None, service: str | None = None) -> list[dict[str, Any]]:
    """List the living processes of a run, except the caller and its ancestors.

    Args:
        run: a run id; None lists those of every run.
        node: only those of this node (several logical nodes may share a machine), or of no node.
        service: only those of this service.
    """
    spared, booted = own_line(), boot_time()
    # Its environment first: of hundreds of processes a handful carry the mark, and what there is to know of the others
    # is not worth the reading.
    mark = f"{RUN_VARIABLE}={'' if run is None else run}".encode()
    marked = [pid for pid in _pids() if mark in _read(_PROC / str(pid) / "environ")]
    return [
        found
        for found in (process(pid, booted) for pid in marked)
        if found is not None
        and found["run"] is not None
        and found["state"] not in ("Z", "X")
        and found["pid"] not in spared
        and (run is None or found["run"] == run)
        and (node is None or found["node"] in (node, None))
        and (service is None or found["service"] == service)
    ]


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for found in processes():
        children.setdefault(found["ppid"], []).append(found["pid"])
    result, todo = [], [pid]
    while todo:
        current = todo.pop()
        result.append(current)
        todo.extend(children.get(current, []))
    return [member for member in result if (_PROC / str(member)).exists()]


def _address(text: str) -> str:
    """Turn the kernel's hexadecimal address (words in host order) into the usual form."""
    raw = b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def tcp_sockets(states: Iterable[str] = (TCP_LISTEN,)) -> list[dict[str, Any]]:
    """List TCP sockets of this network namespace.

    Args:
        states: the kernel's hexadecimal state codes wanted.

    Returns:
        for each: local and remote address and port, state, inode (a string).
    """
    wanted, result = set(states), []
    for name in ("tcp", "tcp6"):
        for line in _read(_PROC / "net" / name).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] not in wanted:
                continue
            local, remote = (field.split(":") for field in fields[1:3])
            result.append(
                {
                    "address": _address(local[0]),
                    "port": int(local[1], 16),
                    "remote_address": _address(remote[0]),
                    "remote_port": int(remote[1], 16),
                    "state": fields[3],
                    "inode": fields[9],
                }
            )
    return result


def socket_inodes(pid: int) -> set[str]:
    """Return the inodes of the sockets that process `pid` has open; empty when it cannot be read."""
    inodes: set[str] = set()
    try:
        descriptors = list(os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return inodes
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor.path)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


def socket_owners() -> dict[str, int]:
    """Return by a socket's inode who has it open, as far as that can be seen."""
    owners: dict[str, int] = {}
    for pid in _pids():
        for inode in socket_inodes(pid):
            # The lowest pid: the parent that bound the socket, not a child that inherited it.
            owners[inode] = min(pid, owners.get(inode, sys.maxsize))
    return owners


def covers(listening: str, wanted: str) -> bool:
    """Tell whether a socket listening on one address answers, or bars, connections to another."""
    return listening == wanted or listening in ("0.0.0.0", "::")  # noqa: S104 (compared, not bound)


def listeners(address: str, ports: Iterable[int]) -> list[dict[str, Any]]:
    """Tell who listens on `ports` of `address`.

    Returns:
        for each listening socket: port, address (what it is bound to) and process (see `process`; None when
        it belongs to a user whose processes the caller may not read).
    """
    wanted = set(ports)
    sockets = [s for s in tcp_sockets() if s["port"] in wanted and covers(s["address"], address)]
    if not sockets:
        return []
    owners = socket_owners()
    return [
        {
            "port": s["port"],
            "address": s["address"],
            "process": process(owners[s["inode"]]) if s["inode"] in owners else None,
        }
        for s in sockets
    ]


def sha256_of(path: str) -> str | None:
    """Return a file's SHA-256 digest, hexadecimal; None when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def loaded_files(pids: Iterable[int], pattern: str) -> list[dict[str, Any]]:
    """List the files that processes have mapped into memory and whose path matches.

    Args:
        pids: the processes.
        pattern: a regular expression searched for in the path.

    Returns:
        for each file: path, pids, deleted (replaced on disk since it was loaded) and sha256 of the file as it
        is on disk now (None when it cannot be read).
    """
    found: dict[str, set[int]] = {}
    for pid in pids:
        for line in _read(_PROC / str(pid) / "maps").decode("utf-8", "replace").splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/") and re.search(pattern, fields[5]):
                found.setdefault(fields[5], set()).add(pid)
    result = []
    for path, users in sorted(found.items()):
        deleted = path.endswith(" (deleted)")
        result.append(
            {
                "path": path,
                "pids": sorted(users),
                "deleted": deleted,
                "sha256": None if deleted else sha256_of(seen_by(min(users), path)),
            }
        )
    return result


def seen_by(pid: int, path: str) -> str:
    """Return the way to a file as process `pid` sees it, which may be in a container; plain `path` without right."""
    root = f"/proc/{pid}/root"
    return root + path if os.access(root, os.X_OK) else path


def _shares_files(pid: int) -> bool:
    """Tell whether a process sees the same files as the caller, and not those of a container."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def shared_memory(pids: Iterable[int]) -> set[str]:
    """Return the files below /dev/shm that processes have mapped. They outlive processes that do not remove them.

    A container's are left out: they have their own /dev/shm, which goes with it.
    """
    found: set[str] = set()
    for pid in pids:
        if _shares_files(pid):
            maps = _read(_PROC / str(pid) / "maps").decode("utf-8", "replace")
            found.update(re.findall(r"(/dev/shm/.+?)(?: \(deleted\))?$", maps, re.MULTILINE))
    return found


def shared_files() -> list[dict[str, Any]]:
    """List the files below /dev/shm.

    Returns:
        of each path, bytes (what it takes, not what it claims), user_id, since (of its inode, in seconds since the
        epoch), mapped (whether a process that can be seen has it mapped) and run (whose process has; None: of no run).
    """
    found = _in_shared_memory()
    if not found:
        return []
    users: dict[str, str | None] = {}
    for process_found in processes():
        for path in shared_memory([process_found["pid"]]):
            users[path] = process_found["run"] or users.get(path)
    return [{**entry, "mapped": entry["path"] in users, "run": users.get(entry["path"])} for entry in found]


def _in_shared_memory() -> list[dict[str, Any]]:
    found = []
    for folder, _folders, names in os.walk("/dev/shm"):  # noqa: S108 (looked at)
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            size = status.st_blocks * 512
            found.append({"path": path, "bytes": size, "user_id": status.st_uid, "since": status.st_ctime})
    return found


def remove_shared_memory(paths: Iterable[str]) -> list[str]:
    """Remove files below /dev/shm that no process has mapped any more. Returns those that were removed."""
    wanted = set(paths)
    # To look at what every process has mapped takes long, and most runs have left nothing to ask it for.
    used = shared_memory(found["pid"] for found in processes()) if wanted else set()
    removed = []
    for path in sorted(wanted - used):
        try:
            os.unlink(path)
        except OSError:
            continue
        removed.append(path)
    return removed


def wait_gone(run: str, seconds: float, node: str | None = None, service: str | None = None) -> list[dict[str, Any]]:
    """Wait until no process of a run is alive.

    Args:
        run: the run id.
        seconds: how long at most.
        node: only this node's.
        service: only this service's.

    Returns:
        the processes that are still alive; empty when all are gone.
    """
    deadline = time.monotonic() + seconds
    left = run_processes(run, node, service)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)  # the poll interval; the condition above decides
        left = run_processes(run, node, service)
    return left


def host_name() -> str:
    """Return the machine's own name, to tell logical nodes on one machine from real ones."""
    return socket.gethostname()
