"""The check `logs_clean`: a trial that passed has no line in its logs that a rule knows as trouble."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness.classification import logs
from pyharness.results import Check, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyharness.case import AllowedLine, TestCase
    from pyharness.classification.logs import Log
    from pyharness.classification.rules import Rule
    from pyharness.classification.scanning import Finding
    from pyharness.results import LogLine, ModelResult, Report

CHECK = "logs_clean"
# Lines of each rule and log that are kept as evidence.
_SHOWN = 3


@dataclass(frozen=True)
class _Trouble:
    """Lines of one rule in one log, of which some may be allowed."""

    log: Log
    rule: Rule
    lines: list[LogLine]
    count: int


def judge(report: Report, found: Iterable[Log], case: TestCase) -> None:
    """Add the check to each trial that was judged at all.

    A trial that has failed already is not failed by its logs once more: there the lines explain.

    Args:
        report: the run; takes the checks, and the failures of those that do not hold.
        found: its logs, searched.
        case: its declaration, with the lines that it allows.
    """
    known = list(found)
    whole_run = any(failure.trial is None for failure in report.failures)
    for model in report.models:
        # One that an earlier part of the run has judged, which this one goes on with, stays as it is.
        if not model.checks or any(check.id == CHECK for check in model.checks):
            continue
        started = time.monotonic()
        own = [log for log in known if log.place == "services" and log.folder == logs.slug(model.trial)]
        troubles, allowed = _troubles(own, case.allowed_log_lines)
        evidence: dict[str, Any] = {
            "logs": len(own),
            "lines": sum(trouble.count for trouble in troubles),
            "found": [_shown(trouble) for trouble in troubles],
            "allowed": allowed,
        }
        reason = _not_judged(model, report, own, whole_run=whole_run)
        status = "skipped" if reason else "fail" if troubles else "pass"
        evidence |= {"reason": reason} if reason else {}
        seconds = round(time.monotonic() - started, 3)
        model.checks.append(
            Check.model_validate({"id": CHECK, "status": status, "evidence": evidence, "seconds": seconds})
        )
        if status == "fail":
            report.failures.append(_failure(model, troubles))


def _not_judged(model: ModelResult, report: Report, own: list[Log], *, whole_run: bool) -> str | None:
    if model.expected and not model.expected.whole:
        return "the trial went as its declaration expects, which is not a pass"
    # A known defect hides nothing: what it leaves in the logs, the declaration allows.
    if whole_run or any(failure.trial == model.trial and not failure.known for failure in report.failures):
        return "there is a failure already"
    return None if own else "the logs are not here: the services are still up, or left none"


def _troubles(own: Iterable[Log], allowed: Iterable[AllowedLine]) -> tuple[list[_Trouble], list[dict[str, Any]]]:
    troubles, let_pass = [], []
    for log in own:
        for finding in log.findings:
            if finding.rule.severity == "note":
                continue
            permit = next((entry for entry in allowed if _covers(entry, finding)), None)
            if permit:
                entry = {"rule": finding.rule.id, "file": log.file, "count": finding.count, "reason": permit.reason}
                let_pass.append(entry)
                continue
            hits = [hit for hit in finding.hits if not any(_permits(entry, hit.text) for entry in allowed)]
            # Of lines that were only counted it is not known what they say.
            count = finding.count - (len(finding.hits) - len(hits))
            if hits:
                troubles.append(_Trouble(log, finding.rule, [log.shown(hit) for hit in hits], count))
    return troubles, let_pass


def _covers(entry: AllowedLine, finding: Finding) -> bool:
    """Tell whether all lines of a finding are allowed at once."""
    return entry.rule == finding.rule.id or (
        entry.pattern is not None and all(re.search(entry.pattern, hit.text) for hit in finding.hits)
    )


def _permits(entry: AllowedLine, text: str) -> bool:
    return entry.pattern is not None and re.search(entry.pattern, text) is not None


def _shown(trouble: _Trouble) -> dict[str, Any]:
    return {
        "rule": trouble.rule.id,
        "class": trouble.rule.class_,
        "count": trouble.count,
        "lines": [line.model_dump(mode="json") for line in trouble.lines[:_SHOWN]],
    }


def _failure(model: ModelResult, troubles: list[_Trouble]) -> Failure:
    # What is the product's makes a fail, so it is told before what only spoils the judgement.
    first = min(troubles, key=lambda trouble: (trouble.rule.class_ != "product", trouble.rule.severity != "fatal"))
    line = first.lines[0]
    total = sum(trouble.count for trouble in troubles)
    where = f"{line.file}:{line.line}" + (f" on {line.host}" if line.host else "")
    return Failure(
        class_=first.rule.class_,
        check=CHECK,
        evidence=f"all else passed, but {total} line(s) of the logs tell of trouble, first {where}: {line.text}",
        hint=f"{first.rule.hint}; if the case means to do this, allow it: docs/failures.md, Allow a line",
        trial=model.trial,
        rule=first.rule.id,
        line=line,
    )
