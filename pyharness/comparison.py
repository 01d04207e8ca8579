"""The verb `compare`: what is not the same in two runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from pyharness import arguments as common
from pyharness import changes, history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(arguments: Sequence[str]) -> int:
    """Print the comparison.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code: 0 also where the two differ.

    Raises:
        UsageError: there is no such run.
    """
    parser = common.parser("compare", "Say what is not the same in two runs, A before B.")
    for name in ("A", "B"):
        parser.add_argument(name, help="a run id or its beginning, or a results folder")
    parser.add_argument("--json", action="store_true", help="for a program")
    options = parser.parse_args(arguments)
    before, after = history.find(options.A), history.find(options.B)
    found, took = changes.between(before, after), changes.timings(before, after)
    if options.json:
        document = {
            "a": _identity(before),
            "b": _identity(after),
            "changes": [change.to_json() for change in found],
            "timings": [change.to_json() for change in took],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(before, after, found, took)) + "\n")
    return 0


def _identity(report: Mapping[str, Any]) -> dict[str, Any]:
    return {key: report.get(key) for key in ("run_id", "test_case", "inventory", "verdict", "started_at")}


def _lines(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    found: Sequence[changes.Change],
    took: Sequence[changes.Change],
) -> list[str]:
    lines = [
        f"{letter}  {report['run_id']}  {report['test_case']}  {report['verdict']}  {report['inventory']}"
        for letter, report in (("A", before), ("B", after))
    ]
    rows = [("", "A", "B", "")]
    rows += [(f"{change.kind} {change.name}", str(change.before), str(change.after), "") for change in found]
    rows += [
        (
            f"seconds {change.name.replace('_', ' ')}",
            f"{change.before:.1f}",
            f"{change.after:.1f}",
            f"{change.ratio:.2f} times{'  !' if change.notable else ''}",
        )
        for change in took
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    return [*lines, "", *(line.rstrip() for line in table), *([] if found else ["nothing else has changed"])]
