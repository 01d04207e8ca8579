"""What is made of a report once it is judged and written: page, metrics, bundle, and its place in the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import bundle, changes, history, html_report, metrics_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyharness.results import Report


def publish(folder: Path, report: Report, inventory: Path, tell: Callable[[str], object]) -> None:
    """Make all of it; what cannot be made is told, and costs no verdict.

    Args:
        folder: the test case's results, with report.json and the logs in it.
        report: the judged report. One that was published before is replaced.
        inventory: where it ran.
        tell: is given a line for a person.
    """
    green = history.last_green(report.test_case, inventory, before=report.run_id)
    outputs: tuple[tuple[str, Callable[[], object]], ...] = (
        (html_report.NAME, lambda: html_report.write(folder, report, green)),
        (metrics_file.NAME, lambda: metrics_file.write(folder.parent, report)),
    )
    for name, make in outputs:
        try:
            make()
        except Exception as error:  # noqa: BLE001 (the verdict stands, whatever becomes of its page)
            tell(f"{name} could not be made: {type(error).__name__}: {error}")
    if report.phases and report.verdict != "pass":  # with the page in it
        found = changes.between(green, report.to_json()) if green else []
        bundle.write(folder, report, [change.to_json() for change in found], tell)
    if report.phases:  # of a run that was refused there is nothing to learn later
        history.record(report, inventory, tell)
