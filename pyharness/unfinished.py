"""Runs whose nodes have not been proven clean, remembered on this machine until they are.

A run is remembered before anything of it is started and forgotten when its teardown has proven the nodes clean. So what
is left by a node that could not be reached, or by a harness that was killed, is known to the next `teardown`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pyharness import paths, redaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pyharness.results import Report


@dataclass(frozen=True)
class Unfinished:
    """One remembered run.

    Attributes:
        run: the run id.
        inventory: the inventory's path, absolute.
        nodes: its nodes, or groups of them.
        since: when it began, as the report has it.
        harness: process id of the harness, and when the kernel started it (clock ticks since boot).
        kept: left up on purpose (`--keep`).
        reason: why its nodes are not clean; empty while it is not known.
    """

    run: str
    inventory: str
    nodes: list[str]
    since: str
    harness: list[int]
    kept: bool = False
    reason: str = ""

    @property
    def is_live(self) -> bool:
        """Whether its harness is still at work."""
        return bool(self.harness) and identity(self.harness[0]) == self.harness


def identity(pid: int) -> list[int]:
    """Return a process's id and start time (proc(5), stat field 22); empty when there is none of that id."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123 (no file)
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return []
    return [pid, int(fields[19])]


def _folder() -> Path:
    return paths.cache() / "unfinished"


def own_identity() -> list[int]:
    """Return what `harness` is for this process."""
    return identity(os.getpid())


def remember(entry: Unfinished) -> None:
    """Keep a run, or what has become known of it.

    Raises:
        OSError: it cannot be written down.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{entry.run}.{os.getpid()}"
    temporary.write_text(redaction.redact_json(json.dumps(asdict(entry), indent=2) + "\n"), encoding="utf-8")
    temporary.replace(folder / f"{entry.run}.json")


def note(report: Report, inventory: Path, nodes: Sequence[str], *, kept: bool, reason: str) -> None:
    """Keep a run of this process, or why it has left its nodes as they are.

    Args:
        report: the run's.
        inventory: the inventory's path.
        nodes: its nodes, or groups of them.
        kept: whether it is left up on purpose.
        reason: why its nodes are not clean, once it is over; empty while it is at work.

    Raises:
        OSError: it cannot be written down.
    """
    remember(
        Unfinished(
            run=report.run_id,
            inventory=str(inventory.resolve()),
            nodes=list(nodes),
            since=report.started_at,
            harness=[] if reason else own_identity(),
            kept=kept,
            reason=reason,
        )
    )


def forget(run: str) -> None:
    """Forget a run. One that is not remembered is no error."""
    (_folder() / f"{run}.json").unlink(missing_ok=True)


def remembered(inventory: Path) -> Iterator[Unfinished]:
    """Yield the runs that an inventory's nodes may still bear, the oldest first.

    Args:
        inventory: the inventory's path.
    """
    for path in sorted(_folder().glob("*.json")):
        try:
            entry = Unfinished(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue  # of another version, or just being forgotten
        if entry.inventory == str(inventory.resolve()):
            yield entry


def stories(inventory: Path, own: str = "") -> Iterator[str]:
    """Yield a sentence for each remembered run that nobody is at work on, and that was not left up on purpose.

    Args:
        inventory: the inventory's path.
        own: the run that asks, which may go on with one of them.
    """
    for entry in remembered(inventory):
        if not entry.is_live and not entry.kept and entry.run != own:
            told = f"run {entry.run} of {entry.since} was not torn down: {entry.reason or 'its harness was killed'}"
            yield f"{told}; end it with: python -m pyharness teardown -i {inventory}"
