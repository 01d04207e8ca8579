"""Command lines that cannot be done: the Pass of an earlier run does not stay in place as if it were the answer."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import case as cases
from pyharness import results
from pyharness.errors import UsageError, one_line
from pyharness.results_dir import ResultsDir

if TYPE_CHECKING:
    from collections.abc import Sequence


def withdraw(arguments: Sequence[str], error: UsageError) -> None:
    """Leave an error result in the place of each Pass of a test case that a refused command line names.

    Args:
        arguments: the command line, which may be of any form.
        error: why it is refused.
    """
    folder = Path("run")
    for number, word in enumerate(arguments):
        if word.startswith("--results="):
            folder = Path(word.partition("=")[2])
        elif word == "--results" and number + 1 < len(arguments):
            folder = Path(arguments[number + 1])
    for name in sorted(set(arguments) & set(cases.names())):
        withdraw_one(name, folder, error)


def withdraw_one(test_case: str, folder: Path, error: UsageError) -> None:
    """Leave an error result in the place of a test case's Pass. Any other earlier result says nothing wrong, and stays.

    Args:
        test_case: its name; its declaration may be wrong, or not to be read.
        folder: the results folder.
        error: why it is not run.
    """
    with suppress(OSError, ValueError, TypeError, KeyError, UsageError):  # where nothing can be read, no Pass can be
        status = json.loads((folder / test_case / "test_results.json").read_text(encoding="utf-8"))["status"]
        if status == "Pass":
            report = results.Report(
                test_case=test_case,
                run_id=results.new_run_id(),
                started_at=results.now(),
                finished_at=results.now(),
                inventory="",
                engine={},
                transport=results.TransportUse(declared=""),
                failures=[_failure(error)],
            )
            report.judge()
            ResultsDir(folder, test_case).write(report)


def _failure(error: UsageError) -> results.Failure:
    hint = "correct it and run again"
    values = {"class": "configuration", "check": "usage", "evidence": one_line(error), "hint": hint}
    return results.Failure.model_validate({**values, "spoils_judgement": True})
