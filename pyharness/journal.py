"""What a run does, written down before it does it: journal.jsonl.

One JSON object per line: ``at`` (seconds since the epoch), ``event`` and the event's own fields. Each line is on the
disk before what it tells of begins, so that after a kill -9 or a power cut it is known how far the run came. Events:

- ``run``: run, test_case, inventory, harness (process id and start of the process that writes);
- ``phase``: name, trial (its folder's name, or null), status (``begun``, then ``ok`` or ``failed``), inputs (digest of
  what the phase depends on, see inputs.py) and, when it has ended, seconds;
- ``playbook``: file, label, run (a reference's has an id of its own);
- ``deployed``: trial, and services by name with node, process id and start;
- ``fault``: fault, targets, trial, step (``inject`` before it is made, ``gone`` once it is proven to be taken back);
- ``finished``: verdict.

The start of each service is written down on its node, by what starts it (``logs/<trial>/journal-<node>.jsonl``): only
there it can be known before it happens.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from pyharness import redaction

if TYPE_CHECKING:
    from pathlib import Path

NAME = "journal.jsonl"
FAULT = "fault"


class Journal:
    """The journal of one run. A second harness that goes on with the run writes to the same file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False

    def note(self, event: str, **fields: Any) -> None:
        """Write an event down, and see to it that it is on the disk.

        Args:
            event: what happens.
            fields: what belongs to it.

        Raises:
            OSError: it cannot be written: the run must not go on as if it were.
        """
        said = redaction.redact_value({"at": round(time.time(), 3), "event": event, **fields})
        line = json.dumps(said, ensure_ascii=False) + "\n"
        if not self._begun:
            line = _end_of_half_a_line(self._path) + line
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, line.encode("utf-8", "replace"))
            os.fsync(descriptor)
            self._begun = True
        finally:
            os.close(descriptor)


def _end_of_half_a_line(path: Path) -> str:
    """Return what ends the line that a killed writer has left unfinished; empty where all lines are whole."""
    try:
        text = path.read_bytes()
    except OSError:
        return ""
    return "" if not text or text.endswith(b"\n") else "\n"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal, the oldest first; none where there is no journal.

    The last line of one whose writer was killed may be half a line: it is left out, and so is what is no event.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return events


def faults_left(events: list[dict[str, Any]]) -> list[str]:
    """Return the faults that were made since services were last deployed, and not proven to be gone.

    Args:
        events: of one run.
    """
    left: list[str] = []
    for event in events:
        if event["event"] == "deployed":
            left.clear()
        elif event["event"] == FAULT:
            named = f"{event.get('fault')} {event.get('targets')}"
            if event.get("step") == "inject":
                left.append(named)
            elif named in left:
                left.remove(named)
    return left
