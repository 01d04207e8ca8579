"""How long test cases took on this machine, for `list` and for who has to choose."""

from __future__ import annotations

import json
import statistics
from contextlib import suppress
from typing import TYPE_CHECKING

from pyharness import paths
from pyharness.results_dir import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.results import Report

# Enough for a median that one cold run does not move.
_KEPT = 5


def _file() -> Path:
    return paths.cache() / "durations.json"


def _read() -> dict[str, dict[str, list[float]]]:
    try:
        document = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def remember(report: Report, inventory: Path) -> None:
    """Keep how long a run took that went all the way. A run that ended early says nothing."""
    if report.verdict != "pass":
        return
    known = _read()
    of_case = known.setdefault(str(inventory.resolve()), {}).setdefault(report.test_case, [])
    of_case[:] = [*of_case, report.timing.total][-_KEPT:]
    with suppress(OSError):  # a full disk is no reason to lose a verdict
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), json.dumps(known, indent=1) + "\n")


def median(test_case: str, inventory: Path) -> tuple[float, int] | None:
    """Return the median duration in seconds of the last passing runs and how many those are; None without any."""
    took = _read().get(str(inventory.resolve()), {}).get(test_case, [])
    return (statistics.median(took), len(took)) if took else None
