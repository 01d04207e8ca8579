"""The verb doctor: look at the nodes of an inventory, and say what is missing and how to get it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from pyharness import arguments as common
from pyharness import case as cases
from pyharness import paths
from pyharness.doctor import rows as tables
from pyharness.doctor import survey as surveys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyharness.doctor.rows import Row

EXIT_ALL_THERE = 0
EXIT_SOMETHING_MISSING = 2

_EPILOG = """\
Nothing is changed on a node, but for --release. State: ok; missing (not there); wrong (there, and not as it has to be);
unknown (could not be found out). Exit code 0: all is ok; 2: something is not, or the command line is wrong. Nothing is
judged about a product.
"""


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "doctor", "Look at the nodes of an inventory without changing them, and say what is missing."
    )
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    parser.add_argument("case", nargs="?", metavar="TEST_CASE", help="only its nodes, and what it needs of them")
    common.add_inventory(parser)
    common.add_extra_vars(parser)
    parser.add_argument("--json", action="store_true", help="print all rows as JSON instead of the table")
    parser.add_argument("--release", metavar="NODE", help="release a node from quarantine, and say why it was there")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the verb.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code: 0 when all is there, 2 when something is missing, wrong or unknown.

    Raises:
        UsageError: what was asked for cannot be done.
    """
    options = _parser().parse_args(arguments)
    paths.use_project_ansible()
    common.check_inventory(options.inventory)
    variables = common.extra_vars(options.extra_vars)
    if options.release is not None:
        return _release(options.inventory, options.release, variables)
    case = cases.load(options.case) if options.case else None
    found = tables.rows(surveys.look(options.inventory, case, variables))
    problems = [row for row in found if row.state != "ok"]
    if options.json:
        document = {"ok": not problems, "rows": [row.to_json() for row in found]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(_table(found))
        nodes = len({row.node for row in found})
        told = f"{len(problems)} not as they have to be" if problems else "all there"
        sys.stdout.write(f"{nodes} nodes, {len(found)} things looked at: {told}\n")
    return EXIT_SOMETHING_MISSING if problems else EXIT_ALL_THERE


def _table(found: list[Row]) -> str:
    """Return rows as aligned columns; what to do stands below what is wrong, because it is long."""
    node = max(len(row.node) for row in found)
    what = max(len(row.what) for row in found)
    state = max(len(row.state) for row in found)
    text = f"{'node':<{node}}  {'what':<{what}}  {'state':<{state}}  seen\n"
    for row in found:
        text += f"{row.node:<{node}}  {row.what:<{what}}  {row.state:<{state}}  {row.said}\n"
        if row.remedy:
            text += f"{'':<{node + what + state + 4}}  -> {row.remedy}\n"
    return text


def _release(inventory: Path, node: str, variables: dict[str, Any]) -> int:
    survey = surveys.release(inventory, node, variables)
    for failure in survey.failures:
        row = tables.failed(failure)
        sys.stderr.write(f"error: {row.node}: {row.said}; {row.remedy}\n")
    for name, document in survey.documents.items():
        was = document["quarantine"]
        if was is None:
            sys.stdout.write(f"{name} is not in quarantine\n")
            continue
        said = f"in quarantine since {was['since']}, by run {was['run']}: {was['reason']}"
        sys.stdout.write(f"{name} is released; it was {said}\n")
    return EXIT_SOMETHING_MISSING if survey.failures else EXIT_ALL_THERE
