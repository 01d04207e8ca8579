"""The verb `report`: make the page of a run anew from its results folder, and open it."""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import arguments as common
from pyharness import history, html_report
from pyharness.errors import UsageError
from pyharness.results import Report

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Write the page and print its path.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code.

    Raises:
        UsageError: there is no such run, or its results cannot be read or written.
    """
    parser = common.parser("report", "Make report.html of a run anew, from its results folder.")
    parser.add_argument(
        "run", nargs="?", metavar="TEST_CASE|RUN", help="a test case, a run id or its beginning, or a results folder"
    )
    parser.add_argument("--results", type=Path, default=Path("run"), metavar="DIR", help="default: run/")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    options = parser.parse_args(arguments)
    folder = _folder(options.results, options.run)
    report = read(folder)
    green = history.last_green(report.test_case, Path(report.inventory), before=report.run_id)
    try:
        page = html_report.write(folder, report, green)
    except OSError as error:
        raise UsageError(f"report: {error.filename or folder}: {error.strerror}") from None
    sys.stdout.write(f"{page}\n")
    if options.open and not webbrowser.open(page.resolve().as_uri()):
        sys.stderr.write("report: no browser can be started here; open the file above in one\n")
    return 0


def read(folder: Path) -> Report:
    """Return the report of a results folder.

    Raises:
        UsageError: there is none, or this version of the harness cannot read it.
    """
    file = folder / "report.json"
    try:
        return Report.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"report: {file}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"report: {file}: is no report that this version of the harness reads") from None


def _folder(results: Path, which: str | None) -> Path:
    """Return the results folder that is meant: the newest if nothing is said."""
    if which is not None and (Path(which) / "report.json").is_file():
        return Path(which)
    found = {}
    for file in [*results.glob("*/report.json"), *results.glob("previous/*/*/report.json")]:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            found[str(document["run_id"])] = (str(document["test_case"]), file.parent)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    named = [run for run, (case, _folder) in found.items() if which is None or case == which] or [
        run for run in found if which is not None and run.startswith(which)
    ]
    if not named:
        there = ", ".join(sorted({case for case, _folder in found.values()})) or "none"
        wanted = f"there is no run {which!r}" if which else "there is no run"
        raise UsageError(f"report: {wanted} in {results}; test cases there: {there}; name another folder by --results")
    by_case = which is None or found[named[0]][0] == which
    if len(named) > 1 and not by_case:
        raise UsageError(f"report: {which} is the beginning of several runs: {', '.join(sorted(named))}")
    return found[max(named)][1]
