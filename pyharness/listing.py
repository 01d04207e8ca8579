"""The test cases, with what each needs: python -m pyharness list."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from pyharness import arguments as common
from pyharness import case as cases
from pyharness import history, selection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyharness.case import TestCase


def main(arguments: Sequence[str]) -> int:
    """Print the list.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code.

    Raises:
        UsageError: an argument is wrong, or a declaration has a mistake.
    """
    parser = common.parser("list", "Name the test cases, with what each needs and how long it took here.")
    common.add_inventory(parser)
    common.add_selection(parser)
    parser.add_argument("--json", action="store_true", help="for a program")
    options = parser.parse_args(arguments)
    common.check_inventory(options.inventory)
    entries = [
        _entry(cases.load(name), options.inventory) for name in selection.select((), options.suite, options.markers)
    ]
    if options.json:
        sys.stdout.write(json.dumps(entries, indent=2) + "\n")
        return 0
    for entry in entries:
        sys.stdout.write("\n".join(_lines(entry)) + "\n")
    return 0


def _entry(case: TestCase, inventory: Path) -> dict[str, Any]:
    known = history.median(case.test_case, inventory, [str(trial) for trial in case.trials((), ())])
    return {
        "test_case": case.test_case,
        "title": case.title,
        "type": [marker for marker in case.markers if marker in cases.TYPES],
        "engine": case.engine,
        "nodes": case.nodes,
        "hardware": {"gpus_per_node": case.gpus.per_node(case.markers), "transport": case.transport},
        "models": case.models,
        "variants": [variant.name for variant in case.variants],
        "markers": case.markers,
        "suites": [suite for suite, members in selection.suites().items() if case.test_case in members],
        "seconds": known[0] if known else None,
        "runs": known[1] if known else 0,
    }


def _lines(entry: dict[str, Any]) -> list[str]:
    nodes, gpus = len(entry["nodes"]), entry["hardware"]["gpus_per_node"]
    took = f"{entry['seconds']:.0f} s here (median of {entry['runs']})" if entry["runs"] else "not run here yet"
    each = f" with {gpus} GPUs{' each' if nodes > 1 else ''}" if gpus else ", no GPU"
    needs = f"{nodes} {'nodes' if nodes > 1 else 'node'}{each}, {entry['hardware']['transport']}"
    lines = [
        f"{entry['test_case']}  {entry['title']}",
        f"    {' '.join(entry['type'])}, {entry['engine']}; {needs}; {took}",
    ]
    keys = ("models", "variants", "markers", "suites")
    return lines + [f"    {key + ':':<10}{' '.join(entry[key])}" for key in keys if entry[key]]
