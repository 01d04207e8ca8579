"""Whether a service listens on the ports that its run has leased for it, or somebody else does.

Standard library only, read from /proc by node_state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Sequence

from ansible_collections.disagg.e2e.plugins.module_utils import node_state

# What programs say that cannot bind: the C library's words (EADDRINUSE), as most have them, or Dynamo's own.
_IN_USE = re.compile(r"address (?:is )?already in use|EADDRINUSE|port \d+ (?:is )?already in use", re.IGNORECASE)
_LAST_LINES = 3


@dataclass(frozen=True)
class Seen:
    """What was seen of a service's leased ports.

    Attributes:
        missing: names of those that it does not listen on (yet).
        taken: names of those that are another program's.
    """

    missing: list[str]
    taken: list[str]


def seen(leased: Mapping[str, int], pid: int, lines: Sequence[str]) -> Seen:
    """Look at the leased ports of a service.

    Args:
        leased: its ports by the names of their leases.
        pid: its first process; 0 where it has ended.
        lines: what it said last.
    """
    ports = set(leased.values())
    listening = [entry for entry in node_state.tcp_sockets() if entry["port"] in ports]
    own = {inode for member in (node_state.tree(pid) if pid else []) for inode in node_state.socket_inodes(member)}
    # Sockets that cannot be looked at (of a container, without root's rights) may be its own.
    unknown = bool(pid) and not own
    by_port = {entry["port"]: unknown or entry["inode"] in own for entry in listening}
    if not all(by_port.values()):
        # What it has closed between the two looks was its own, and is nobody's now.
        there = {entry["inode"] for entry in node_state.tcp_sockets() if entry["port"] in ports}
        by_port = {entry["port"]: by_port[entry["port"]] for entry in listening if entry["inode"] in there}
    missing = [name for name, port in leased.items() if not by_port.get(port)]
    taken = [name for name in missing if leased[name] in by_port]
    if not taken:
        # Who has it may not listen. Lines that name another port are of an earlier start.
        said = [line for line in lines if _IN_USE.search(line)]
        taken = [name for name in missing if any(re.search(rf"\b{leased[name]}\b", line) for line in said)]
        if not taken and not pid and any(_IN_USE.search(line) for line in lines[-_LAST_LINES:]):
            taken = missing  # it ended over that, and names no port
    return Seen(missing, taken)
