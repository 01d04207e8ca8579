"""End what runs left on the nodes of an inventory: python -m pyharness teardown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import arguments as common
from pyharness import facts, results_dir, temporary, unfinished
from pyharness.classification.playbooks import explain as explain_playbook
from pyharness.playbook import PlaybookRunner

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_SECONDS = 300


def main(arguments: Sequence[str]) -> int:
    """End what was brought up by hand and every run that could not be torn down, or one run.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    parser = common.parser("teardown", "End what runs left on the nodes of an inventory.")
    common.add_inventory(parser)
    common.add_extra_vars(parser)
    parser.add_argument("--run", metavar="ID", help="only this run; 'all' for every run found")
    parser.add_argument(
        "--results", type=Path, default=Path("run"), metavar="DIR", help="takes the logs; default: run/"
    )
    options = parser.parse_args(arguments)
    common.check_inventory(options.inventory)
    if options.run is not None:
        return 0 if _take_down(options, options.run) else 2
    left = [entry for entry in unfinished.remembered(options.inventory) if not entry.is_live and not entry.kept]
    # All of them, whatever becomes of one: what could be reached is clean afterwards.
    done = [_take_down(options, run) for run in ("manual", *(entry.run for entry in left))]
    return 0 if all(done) else 2


def _take_down(options: argparse.Namespace, run: str) -> bool:
    facts.learn_secrets(run)
    with temporary.folder("teardown") as logs:
        runner = PlaybookRunner(options.inventory, logs, lambda: False)
        variables = {"disagg_run": run, "disagg_logs_to": str((options.results / run).resolve())}
        variables |= common.extra_vars(options.extra_vars)
        outcome = runner.run("teardown.yml", variables, label="teardown", timeout=_SECONDS, patient=True)
    _keep_logs(options.results / run)
    for failure in explain_playbook(outcome, "teardown", None):
        sys.stderr.write(f"error: {failure.evidence}; {failure.hint}\n")
    if outcome.ok:
        unfinished.forget(run)
        facts.forget(run)
        sys.stdout.write(f"nothing of run {run} is left\n")
    return outcome.ok


def _keep_logs(folder: Path) -> None:
    """Keep the logs that came home, without their secrets."""
    try:
        results_dir.unpack(folder)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: the logs in {folder} cannot be kept: {error}\n")
