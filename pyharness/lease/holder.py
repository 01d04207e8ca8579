"""Who holds a lease: a process of a machine, named so that no other is ever taken for it."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness.from_collection import lease

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMESPACE = Path("/proc/self/ns/pid")


def identity(pid: int) -> str:
    """Return what names a process of this machine for ever; empty where there is none of that id.

    That is the boot, the namespace that the id is of, the id, and when the kernel started it (proc(5), stat field 22).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return f"{lease.boot()}/{_NAMESPACE.readlink()}/{pid}/{fields[19]}"
    except OSError:
        return ""


def is_dead(entry: Mapping[str, Any]) -> bool:
    """Tell whether the process that holds a lease is known to be gone, because it was one of this machine."""
    if entry["kept"] or not entry["process"]:
        return False
    boot, namespace, pid, _start = entry["process"].split("/")
    own = identity(os.getpid()).split("/")
    return [boot, namespace] == own[:2] and identity(int(pid)) != entry["process"]


def user() -> str:
    """Return who runs this process, for people."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
