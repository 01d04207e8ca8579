"""What is begun before its turn comes, while something else is waited for. Nothing goes wrong where it was not."""

from __future__ import annotations

import importlib
import json
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READ_SECONDS = 60
# By path, as the command line gives it: ansible-inventory, which takes longer than the harness takes to load.
_inventories: dict[str, subprocess.Popen[bytes]] = {}
# What only the end of a run needs: to load it takes a fifth of a second, which nobody notices while Ansible works.
_AT_THE_END = ("pyharness.publishing", "pyharness.html_report.page")


@contextmanager
def reading_inventory(path: Path) -> Iterator[None]:
    """Have Ansible read an inventory while the block goes on; `inventory` returns what it has read.

    Args:
        path: the inventory's path.
    """
    reads = None
    with suppress(OSError):  # not installed: who needs it says so
        reads = subprocess.Popen(
            ["ansible-inventory", "-i", str(path), "--list"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        _inventories[str(path)] = reads
    try:
        yield
    finally:
        _inventories.pop(str(path), None)
        if reads is not None:
            reads.kill()
            reads.communicate()


def inventory(path: str) -> dict[str, Any] | None:
    """Return an inventory that Ansible has been reading, once; None where it has not been, or cannot be read.

    Args:
        path: as it was given to `reading_inventory`.
    """
    reads = _inventories.pop(path, None)
    if reads is None:
        return None
    try:
        text, _nothing = reads.communicate(timeout=_READ_SECONDS)
        found = json.loads(text) if reads.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return found if isinstance(found, dict) else None


def load_for_the_end() -> None:
    """Load what is needed when a run ends, beside whatever is done now."""

    def load() -> None:
        from pyharness.classification import rules  # noqa: PLC0415 (the rest of this function says why)

        with suppress(Exception):  # whoever needs it meets the same, and says so
            rules.load()
            for name in _AT_THE_END:
                importlib.import_module(name)

    threading.Thread(target=load, name="load for the end", daemon=True).start()
