"""Whose turn it is on a node: one small file on the node itself says which run has it, and until when.

Standard library only: Ansible modules import it on a node, and the harness sends this very file to a node's Python (see
pyharness/lease.py). So what takes a lease, what renews it and what starts a service under it agree.

A lease is held as long as it is renewed. Only the node's own clock counts, and of its clocks the one that nobody can
set: CLOCK_BOOTTIME of clock_gettime(2), with the kernel's boot id beside it, because after a boot nothing of a run is
alive. Each time a lease passes to another holder its number grows (a fencing token: Kleppmann, "How to do distributed
locking", 2016). Whoever starts something under a lease shows the number that it was given; a holder that was asleep for
too long has an old one, and is refused.

The file is never removed and never replaced: it is written in place, under flock(2) of itself. So there is no moment
without it, the number outlives the holder, a user can take over what another user of the machine has given back, and a
full disk cannot stop a renewal.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from contextlib import contextmanager
from typing import Any, Iterable, Iterator

SCHEMA_VERSION = 1
DEFAULT_DIR = "/tmp/disagg-e2e-leases"  # noqa: S108 (gone after a boot, and open to all users, as it has to be)
DEFAULT_TTL = 60.0
# All of an entry fits in, and what is written later is never longer: room on the disk is needed once.
_RECORD_BYTES = 4096
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

Entry = dict[str, Any]

# How modules that start something under a lease take it.
ARGUMENT = {
    "type": "dict",
    "options": {"file": {"type": "path", "required": True}, "number": {"type": "int", "required": True}},
}


class LeaseError(Exception):
    """A lease cannot be read or written; the text says why and what to do."""


class LeaseLost(Exception):  # noqa: N818 (it is no error of the caller's)
    """What was to be done under a lease must not be done: it is somebody else's by now, or nobody's."""


def path(folder: str, name: str) -> str:
    """Return the file of a lease.

    Args:
        folder: the lease directory.
        name: the lease's name; what a file name should not hold becomes an underscore.
    """
    return os.path.join(folder, re.sub(r"[^A-Za-z0-9._-]", "_", name) + ".json")


def boot() -> str:
    """Return what names this boot of the machine."""
    with open(_BOOT_ID, encoding="ascii") as stream:
        return stream.read().strip()


def uptime() -> float:
    """Return the seconds since the machine booted, with those that it slept. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def state(entry: Entry | None) -> str:
    """Return how a lease stands now.

    Args:
        entry: what is written down; None where nothing is.

    Returns:
        free, held, kept (left up on purpose: it does not expire) or expired (its holder has not renewed it in time, or
        the machine has booted since).
    """
    if entry is None or entry["run"] is None:
        return "free"
    if entry["boot"] != boot():
        return "expired"
    if entry["kept"]:
        return "kept"
    return "held" if 0 <= uptime() - entry["uptime"] <= entry["ttl_seconds"] else "expired"


def told(entry: Entry) -> str:
    """Say in words who has a lease."""
    since, end = _moment(entry["since"]), entry["expected_end"]
    words = f"run {entry['run']} ({entry['test_case']}) of {entry['holder']} since {since}"
    if entry["kept"]:
        return f"{words}, left up by --keep"
    return f"{words}, expected to end {_moment(end)}" if end else words


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _prepare(folder: str) -> None:
    """Have the lease directory, where every user may make files and none may remove another's."""
    try:
        os.mkdir(folder)
        os.chmod(folder, 0o1777)  # noqa: S103 (see above; mkdir's own mode is cut by the umask)
    except FileExistsError:
        pass
    except OSError as error:
        raise LeaseError(f"lease directory {folder} cannot be made: {error.strerror}; set disagg_lease_dir") from error
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise LeaseError(f"lease directory {folder} is no directory (or a symlink); remove it, or set disagg_lease_dir")


@contextmanager
def _opened(file: str, *, write: bool) -> Iterator[int | None]:
    """Open a lease and lock it: for oneself to write, among readers to read. None where there is none to read."""
    if write:
        _prepare(os.path.dirname(file))
    flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = _descriptor(file, flags, make=write)
    except OSError as error:
        raise LeaseError(f"lease {file} cannot be opened: {error.strerror}; see: ls -l {file}") from error
    if descriptor is None:
        yield None
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LeaseError(f"lease {file} is no file; remove it")
        fcntl.flock(descriptor, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def _descriptor(file: str, flags: int, *, make: bool) -> int | None:
    # Without O_CREAT first: of another user's file in such a directory the kernel refuses that (proc(5),
    # fs.protected_regular).
    try:
        return os.open(file, flags)
    except FileNotFoundError:
        if not make:
            return None
    try:
        descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(file, flags)  # made by somebody else just now
    os.fchmod(descriptor, 0o666)  # whatever the umask: another user has to be able to take it
    return descriptor


def _load(descriptor: int, file: str) -> Entry | None:
    """Return the entry; None where there is none yet."""
    raw = os.pread(descriptor, 1 << 20, 0)
    if not raw.strip():
        return None
    try:
        entry = json.loads(raw)
    except ValueError:
        entry = None
    if isinstance(entry, dict) and entry.get("schema_version") == SCHEMA_VERSION:
        return entry
    if os.fstat(descriptor).st_mtime < time.time() - uptime():
        return None  # from before the machine booted: nobody is alive who could hold it
    raise LeaseError(
        f"lease {file} cannot be understood, so nobody knows who has it; if no run is at work there: rm {file}"
    )


def _store(descriptor: int, entry: Entry) -> None:
    raw = json.dumps(entry).encode()
    # One call, in place; blanks behind it cover what was there.
    os.pwrite(descriptor, raw.ljust(max(_RECORD_BYTES, os.fstat(descriptor).st_size)), 0)


def read(file: str) -> Entry | None:
    """Return what a lease says; None where there is none.

    Args:
        file: its file.

    Raises:
        LeaseError: there is one, and it cannot be understood.
    """
    with _opened(file, write=False) as descriptor:
        return None if descriptor is None else _load(descriptor, file)


def take(file: str, claim: dict[str, Any]) -> dict[str, Any]:
    """Take a lease if it is free, expired or the caller's already.

    Args:
        file: its file.
        claim: name, nodes (the names that the run knows it by), run, test_case, holder (who asks, for people), process
            (what tells the asking process from any other), ttl_seconds, expected_seconds (None: not known), and
            dead (processes that are known to be gone, whose leases need not expire).

    Returns:
        taken (whether), and entry: as it is now, or its holder's.

    Raises:
        LeaseError: it cannot be read or written.
    """
    with _opened(file, write=True) as descriptor:
        assert descriptor is not None
        old = _load(descriptor, file)
        stands = state(old)
        own = old is not None and old["run"] == claim["run"]
        gone = old is not None and stands == "held" and old["process"] in claim["dead"]
        if stands in ("held", "kept") and not own and not gone:
            return {"taken": False, "entry": old}
        now = time.time()
        # Not under the clock: it grows even where the file was removed in between.
        number, nodes = max((old or {"number": 0})["number"] + 1, int(now)), list(claim["nodes"])
        leftovers = list(old["leftovers"]) if old else []
        if old is not None and own and stands == "held" and old["process"] == claim["process"]:
            # The same machine under another name of the inventory.
            number, nodes = old["number"], sorted({*old["nodes"], *nodes})
        elif old is not None and not own and old["run"] is not None:
            # Noted until somebody has cleaned up after it, even if this run does not come to it either.
            leftovers.append({"run": old["run"], "nodes": old["nodes"]})
        expected = claim["expected_seconds"]
        entry = {key: claim[key] for key in ("name", "run", "test_case", "holder", "process", "ttl_seconds")}
        entry.update(schema_version=SCHEMA_VERSION, nodes=nodes, number=number, kept=False, since=now, heartbeat=now)
        entry.update(uptime=uptime(), boot=boot(), expected_end=None if expected is None else now + expected)
        entry["leftovers"] = [left for left in leftovers if left["run"] != claim["run"]]
        _store(descriptor, entry)
        return {"taken": True, "entry": entry}


def renew(file: str, run: str, number: int, *, kept: bool = False, over: bool = False) -> dict[str, Any]:
    """Say that a lease's holder is still at work, or that it is not any more.

    Args:
        file: its file.
        run: the holder.
        number: the number that it was given.
        kept: whether it is to stay without being renewed from now on.
        over: whether it expires at once, because its holder ends and could not clean up.

    Returns:
        renewed (whether), and entry: as it is now, None where the file is gone.

    Raises:
        LeaseError: it cannot be read or written.
    """
    with _opened(file, write=False) as there:
        if there is None:
            return {"renewed": False, "entry": None}
    with _opened(file, write=True) as descriptor:
        assert descriptor is not None
        entry = _load(descriptor, file)
        if entry is None or entry["run"] != run or entry["number"] != number:
            return {"renewed": False, "entry": entry}
        seen = -entry["ttl_seconds"] - 1 if over else uptime()
        entry.update(heartbeat=time.time(), uptime=seen, boot=boot(), kept=kept or (entry["kept"] and not over))
        _store(descriptor, entry)
        return {"renewed": True, "entry": entry}


def release(file: str, run: str, nodes: Iterable[str]) -> bool:
    """Give a lease back, and forget that anything of a run is left there. Its number stays.

    Args:
        file: its file.
        run: the run that is over. One that does not have the lease gives nothing back.
        nodes: those of its names of the machine that it has no need of any more; the last one gives the lease back.

    Returns:
        whether anything was changed.

    Raises:
        LeaseError: it cannot be read or written.
    """
    over = set(nodes)
    with _opened(file, write=False) as there:
        before = None if there is None else _load(there, file)
    if before is None or not _concerns(before, run):
        return False
    with _opened(file, write=True) as descriptor:
        assert descriptor is not None
        entry = _load(descriptor, file)
        if entry is None or not _concerns(entry, run):
            return False
        old = json.dumps(entry)
        for left in entry["leftovers"]:
            left["nodes"] = [node for node in left["nodes"] if left["run"] != run or node not in over]
        entry["leftovers"] = [left for left in entry["leftovers"] if left["nodes"]]
        if entry["run"] == run:
            entry["nodes"] = [node for node in entry["nodes"] if node not in over]
            if not entry["nodes"]:
                entry.update(run=None, test_case=None, holder=None, process=None, kept=False, expected_end=None)
        _store(descriptor, entry)
        return json.dumps(entry) != old


def _concerns(entry: Entry, run: str) -> bool:
    return entry["run"] == run or any(left["run"] == run for left in entry["leftovers"])


@contextmanager
def guarded(lease: dict[str, Any] | None) -> Iterator[None]:
    """Do something that only the holder of a lease may do. While it is done, nobody else can take the lease.

    Args:
        lease: file and number, as its holder was given them; None where nothing is leased, and all may be done.

    Raises:
        LeaseLost: the lease is not the caller's any more; the text begins with "lease lost: ".
    """
    if not lease:
        yield
        return
    try:
        with _opened(lease["file"], write=False) as descriptor:
            entry = None if descriptor is None else _load(descriptor, lease["file"])
            _refuse_unless_held(entry, lease)
            yield
    except LeaseError as error:
        raise LeaseLost(f"lease lost: {error}") from error


def _refuse_unless_held(entry: Entry | None, lease: dict[str, Any]) -> None:
    stands = state(entry)
    if entry is None:
        reason = f"{lease['file']} is gone"
    elif entry["number"] != int(lease["number"]):
        has = "nobody" if stands == "free" else told(entry)
        reason = f"{entry['name']} was not renewed in time and has passed on; it is held by {has}"
    elif stands == "free":
        reason = f"{entry['name']} was given back, by a teardown of this run"
    elif stands == "expired":
        reason = f"{entry['name']} was not renewed for {entry['ttl_seconds']:g} s: the harness is gone, or was asleep"
    else:
        return
    raise LeaseLost(f"lease lost: {reason}; nothing is started under it")
