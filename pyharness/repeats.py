"""A test case several times in a row. What passes only sometimes is flaky, and that is never a pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyharness import flakes, lifecycle
from pyharness.results import EXIT_CODES, Failure, KnownFlake, Repeat
from pyharness.results_dir import ResultsDir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from pyharness.options import Options
    from pyharness.results import Report, Verdict


def run_case(options: Options) -> Report:
    """Run a test case as often as is asked for.

    Each run leaves its own results, the last one in RESULTS/<case>, those before in RESULTS/previous/<case>. The last
    report tells of all of them, and its verdict is that of all.

    Args:
        options: what to do; `repeat` says how often.

    Raises:
        UsageError: what is asked for cannot be done.
    """
    if options.repeat == 1:
        return lifecycle.run_case(options)
    for told in flakes.expired(_today()):
        options.tell(told)
    reports: list[Report] = []
    for number in range(1, options.repeat + 1):
        options.tell(f"-- run {number} of {options.repeat}")
        # Going on is for the first: the others begin anew.
        reports.append(lifecycle.run_case(replace(options, resume=options.resume and number == 1)))
        if any(failure.check == "interrupted" for failure in reports[-1].failures):
            break
    last = reports[-1]
    _judge(last, reports, asked=options.repeat)
    folder = ResultsDir(options.results, options.test_case, goes_on=True)
    folder.write(last)
    from pyharness import publishing  # noqa: PLC0415 (needed by few runs, and costs a fifth of a second)

    publishing.publish(folder.root, last, options.inventory, options.tell)
    return last


def _today() -> date:
    return datetime.now(UTC).date()


def _judge(last: Report, reports: Sequence[Report], *, asked: int) -> None:
    """Put into the last report what came of all runs."""
    last.repeats = [
        Repeat(
            run_id=report.run_id,
            verdict=report.verdict,
            seconds=report.timing.total,
            first_cause=_first_cause(report),
        )
        for report in reports
    ]
    failed = [report for report in reports if report.verdict != "pass"]  # before the last one's verdict is that of all
    last.verdict = together([report.verdict for report in reports])
    if last.verdict != "flaky":
        return
    found = [flakes.known(report, _today()) for report in failed]
    if all(found) and found[0] is not None:
        entry = found[0]
        last.known_flake = KnownFlake(
            owner=entry.owner, until=entry.until.isoformat(), reason=entry.reason, issue=entry.issue
        )
    if failed[0] is not last:
        last.failures.insert(0, _told(failed[0], passed=len(reports) - len(failed), runs=len(reports), asked=asked))


def exit_code(report: Report, options: Options) -> int:
    """Return what the process ends with.

    Args:
        report: what came of the run, or of all runs.
        options: what was asked for.
    """
    if report.verdict == "flaky" and report.known_flake and options.allow_known_flakes:
        return EXIT_CODES["pass"]
    return EXIT_CODES[report.verdict]


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of several runs of one test case.

    Args:
        verdicts: one per run. All alike: that one. Some passed and others not: flaky. None passed: fail if the product
            was wrong in one of them, error otherwise.
    """
    if len(set(verdicts)) == 1:
        return verdicts[0]
    if "pass" in verdicts:
        return "flaky"
    return "fail" if "fail" in verdicts else "error"


def _first_cause(report: Report) -> str | None:
    if not report.failures:
        return None
    first = report.failures[0]
    return f"{first.class_}: {first.check}: {first.evidence.splitlines()[0] if first.evidence else ''}"


def _told(failed: Report, *, passed: int, runs: int, asked: int) -> Failure:
    """Return the failure that stands for those of earlier runs in a last report whose own run passed."""
    first = failed.failures[0]
    cut_short = f" ({asked} asked for)" if runs < asked else ""
    values = {
        "class": first.class_,
        "check": "repeats",
        "evidence": f"{passed} of {runs} runs passed{cut_short}; run {failed.run_id} did not: {_first_cause(failed)}",
        "hint": f"its results are in previous/{failed.test_case}/{failed.run_id}; whoever knows the flake may record "
        "it with an owner and an end (docs/failures.md)",
        "rule": "repeats.flaky",
        "line": first.line,
    }
    return Failure.model_validate(values)
