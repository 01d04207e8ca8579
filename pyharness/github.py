"""What GitHub Actions shows of a run: annotations, the job's summary, and no command that a log slips in.

Protocol: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pyharness import redaction
from pyharness.verdict_lines import tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyharness.results import Failure, Report

# GitHub shows ten errors and ten warnings of a step.
_ANNOTATIONS = 10
SUMMARY_BYTES = 1024 * 1024  # of a step; with more GitHub takes none of it
_FAILURES = 10
_EVIDENCE = 1500  # characters
_LEFT_OUT = "\n\nMore does not fit into a summary of 1 MiB; the rest is in the results.\n"
_LEVELS = {"pass": "notice", "fail": "error", "error": "error", "flaky": "warning"}


def active(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether this process is a step of a GitHub Actions job."""
    return (os.environ if environment is None else environment).get("GITHUB_ACTIONS") == "true"


def annotate(report: Report, stream: TextIO | None = None) -> None:
    """Show the failures of a run as annotations; elsewhere than on GitHub nothing is done.

    Args:
        report: what came of the run.
        stream: takes the commands; default is standard output. GitHub reads both.
    """
    if active():
        (stream or sys.stdout).write("".join(f"{line}\n" for line in commands(report)))


def commands(report: Report) -> list[str]:
    """Return the commands that make a run's annotations: a first cause each, and of its consequences the number."""
    expected = {model.trial for model in report.models if model.expected}
    failures = [
        failure
        for failure in report.failures
        if not failure.known and (failure.trial not in expected or not failure.trial)
    ]
    causes = [failure for failure in failures if not failure.consequence] or failures
    level = _LEVELS.get(report.verdict, "error")
    result = []
    for failure in causes[:_ANNOTATIONS]:
        about = f" ({failure.trial})" if failure.trial else ""
        title = f"{report.test_case}: {failure.class_}: {failure.check}{about}"
        result.append(_command(level, title, _told(failure)))
    more = len(failures) - len(result)
    if result and more > 0:
        result[-1] += _data(f"\n\n{more} more in report.html")
    return result


def _told(failure: Failure) -> str:
    """Return what an annotation says: the line of the log that shows it rather than all that was around it."""
    if failure.line is None:
        return f"{shortened(failure.evidence)}\n-> {failure.hint}"
    line = failure.line
    where = f"{f'{line.host}, ' if line.host else ''}{line.file}{f':{line.line}' if line.line else ''}"
    head = failure.evidence.partition("\n")[0]
    return f"{shortened(head)}\n{where}: {shortened(line.text)}\n-> {failure.hint}"


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_property(redaction.redact(title))}::{_data(redaction.redact(message))}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def harmless(text: str) -> str:
    """Return text that may hold lines of a log so that GitHub obeys none of them; elsewhere as it is.

    A line that begins with two colons, or holds `##[`, is a command to GitHub's runner: a service's log could add a
    path or hide a word of what follows. Between the two marks, which nobody can guess, no command counts.
    """
    if not active() or not re.search(r"^\s*::|##\[", text, re.MULTILINE):
        return text
    mark = secrets.token_hex(16)
    return f"::stop-commands::{mark}\n{text.rstrip()}\n::{mark}::\n"


def summarize(reports: Sequence[Report]) -> None:
    """Add the runs to the job's summary, as far as GitHub takes it; elsewhere nothing is done.

    Args:
        reports: what came of the runs.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not (name and reports):
        return
    file = Path(name)
    try:
        there = file.stat().st_size if file.exists() else 0
        with file.open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(_fitting(redaction.redact(markdown(reports)), SUMMARY_BYTES - there))
    except OSError as error:
        sys.stderr.write(f"warning: GITHUB_STEP_SUMMARY {file}: {error.strerror}; the summary is left out\n")


def _fitting(text: str, room: int) -> str:
    """Return as many whole lines as there is room for, in bytes."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= room:
        return text
    kept = raw[: max(0, room - len(_LEFT_OUT) - 8)].decode("utf-8", "ignore")
    kept = kept[: kept.rfind("\n") + 1]
    open_fence = None
    for line in kept.splitlines():
        if re.fullmatch(r"`{3,}", line) and open_fence in (None, line):
            open_fence = None if open_fence else line
    return f"{kept}{open_fence or ''}{_LEFT_OUT}" if kept else ""


def markdown(reports: Iterable[Report]) -> str:
    """Return the runs as a table, and the first causes below. What came from nodes can be no markup there."""
    reports = list(reports)
    lines = ["| Test case | Verdict | Trials | Transport | Seconds | First cause |", "| --- " * 6 + "|"]
    for report in reports:
        first = next((failure for failure in report.failures if not failure.consequence), None)
        cause = f"{first.class_}: {first.check}" if first and report.verdict != "pass" else ""
        cells = [report.told_verdict, tally(report.models), report.transport.used or "not known"]
        cells += [f"{report.timing.total:.1f}", cause]
        name = f"{plain(report.test_case)}{' (simulated engine)' if report.simulated else ''}"
        lines.append(f"| {name} | {' | '.join(plain(cell) for cell in cells)} |")
    causes = [
        (report, failure)
        for report in reports
        for failure in report.failures
        if report.verdict != "pass" and not failure.consequence and not failure.known
    ]
    for report, failure in causes[:_FAILURES]:
        about = f" ({plain(failure.trial)})" if failure.trial else ""
        lines += ["", f"**{plain(report.test_case)}**, {failure.class_}: {plain(failure.check)}{about}", ""]
        lines += block(f"{shortened(failure.evidence)}\n-> {failure.hint}")
    if len(causes) > _FAILURES:
        lines += ["", f"and {len(causes) - _FAILURES} more, in the results"]
    return "\n".join([*lines, "", ""])


def shortened(text: str) -> str:
    """Return text without its middle where it is long: the first words say what it is, the last what came of it."""
    if len(text) <= _EVIDENCE:
        return text
    head, tail = text[: _EVIDENCE // 3], text[-2 * _EVIDENCE // 3 :]
    return f"{head}\n… {len(text) - len(head) - len(tail)} characters left out …\n{tail}"


def plain(text: str) -> str:
    """Return text for a cell of a table, without anything that Markdown or HTML reads."""
    return re.sub(r"[^\w./:+, -]", "?", text)


def block(text: str) -> list[str]:
    """Return text as the lines of a code block that it cannot leave."""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 3)
    return [fence, printable(text), fence]


def printable(text: str) -> str:
    """Leave out what a terminal or a browser would obey instead of showing it."""
    return "".join(letter for letter in text if letter == "\n" or letter.isprintable())
