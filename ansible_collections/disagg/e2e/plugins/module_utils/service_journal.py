"""What is started on a node, written down there before it is started: journal-<node>.jsonl beside the services' logs.

The controller cannot write it: only here it is known before it happens. It goes home with the logs.
"""

from __future__ import annotations

import json
import os
import time


def note(log: str, node: str, service: str, command: list[str]) -> None:
    """Write down that a service is to be started, and see to it that it is on the disk.

    Args:
        log: the service's log; the journal lies beside it.
        node: the node's name in the inventory.
        service: the service's name.
        command: program and arguments.

    Raises:
        OSError: it cannot be written: then the service must not be started.
    """
    folder = os.path.dirname(log)
    os.makedirs(folder, exist_ok=True)
    line = {"at": round(time.time(), 3), "event": "service", "node": node, "service": service, "command": command}
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(os.path.join(folder, f"journal-{node}.jsonl"), flags, 0o644)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
