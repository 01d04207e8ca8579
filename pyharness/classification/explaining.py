"""Give each failure its rule, its class and the line that shows it; and judge the logs of what passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.classification import causes, logs
from pyharness.classification.clean_logs import judge
from pyharness.classification.rules import UNKNOWN, WEIGHTS, Rule, load
from pyharness.results import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.case import TestCase
    from pyharness.classification.logs import Log
    from pyharness.classification.rules import Rules
    from pyharness.classification.scanning import Finding, Hit
    from pyharness.results import LogLine, Report

_NOWHERE = float("inf")
# Failures of these classes may be another's: a service died, a task failed, and the log says of what.
_OPEN = ("product", "unknown")
_ENDED_RUN = {
    "interrupted": "run.interrupted",
    "usage": "run.usage",
    "lease": "run.lease_lost",
    "unfit_node": "run.not_begun",
}
_OUTDATED = ("unsupported", "expected_failure", "known_defects")
_REQUESTS = ("http.", "request.")


def explain(report: Report, folder: Path, case: TestCase) -> None:
    """Say of each failure why, tell first causes from consequences, and look for trouble in the logs of what passed.

    To be called once: after the logs are home and `deployment.json` is written, and before the verdict is judged.

    Args:
        report: the run; its failures and checks are changed in place.
        folder: its results folder.
        case: its declaration, which may allow lines.
    """
    try:
        rules = load()
        found = logs.read(report, folder, rules)
        times = [_explain(failure, report, rules, found) for failure in report.failures]
        _tell_apart(report.failures, times)
        judge(report, found, case)
    except Exception as error:  # noqa: BLE001 (the run has to end in a report, and what was not judged is no pass)
        told = f"the run could not be explained: {type(error).__name__}: {error}"
        hint = "this is a defect of the harness; report it with the logs folder"
        report.failures.append(Failure(class_="test", check="run", evidence=told, hint=hint, rule="run.defect"))


def _tell_apart(failures: list[Failure], times: list[float | None]) -> None:
    """Put first causes first. A known defect explains nothing else, and stands behind all that counts."""
    counted = [(failure, at) for failure, at in zip(failures, times, strict=True) if not failure.known]
    ordered = [failure for failure, _at in counted]
    causes.settle(ordered, [at for _failure, at in counted])
    failures[:] = [*ordered, *(failure for failure in failures if failure.known)]


def _explain(failure: Failure, report: Report, rules: Rules, found: list[Log]) -> float | None:
    """Explain one failure. Returns when the line was written that shows it; None where that is not known."""
    expected = next(
        (model.expected for model in report.models if model.expected and model.trial == failure.trial), None
    )
    if failure.known:
        failure.rule = "declared.known_defect"
        failure.line = failure.line or _where(failure.evidence, failure.trial, found)
        return None
    if expected and expected.kind != "known_defect":
        failure.rule = "declared.unsupported" if expected.kind == "unsupported" else "declared.known_failure"
        failure.line = failure.line or _where(failure.evidence, failure.trial, found)
        return None
    if failure.check in _ENDED_RUN:
        failure.rule = failure.rule or _ENDED_RUN[failure.check]
        return None
    _by_words(failure, rules)
    own = _logs_of(failure, found)
    hit = _by_logs(failure, own)
    if failure.line is None and logs.subject(failure.evidence):
        failure.line = _last_words(failure, own)
    if failure.line is None and failure.rule and failure.rule.startswith(("ansible.", "infra.", UNKNOWN)):
        failure.line = _task(failure, found)
    if failure.line is None and failure.rule and failure.rule.startswith(_REQUESTS):
        failure.line = _exchange(failure, found)
    return hit.at if hit else None


def _by_words(failure: Failure, rules: Rules) -> None:
    """Give a failure the rule of its own words."""
    first = failure.evidence.partition("\n")[0]
    known = rules.match(first, "evidence")
    if failure.check in _OUTDATED:
        failure.rule = "declared.outdated"
    elif failure.check == "run" and failure.class_ == "test":
        failure.rule = "run.defect"
    elif failure.rule is None and known:
        failure.rule = known.id
    elif failure.check == "run" and (lacking := rules.match(first, "ansible")):
        failure.rule = lacking.id
    elif failure.rule is None:
        failure.rule = UNKNOWN if failure.class_ == "unknown" else f"check.{failure.check}"
    elif failure.rule.startswith("ansible.") and (task := rules.match(failure.evidence, "ansible")):
        failure.rule, failure.class_, failure.hint = task.id, task.class_, task.hint


def _logs_of(failure: Failure, found: list[Log]) -> list[Log]:
    """Return the logs that may show why: of the trial, or of the one service that the failure is about."""
    folder, about = logs.slug(failure.trial), logs.subject(failure.evidence)
    if about:
        return [
            log
            for log in found
            if (log.folder == folder and log.service == about.service)
            or (log.place == "kernel" and log.host == about.node)
        ]
    return [log for log in found if log.folder == folder or log.place == "kernel"]


def _by_logs(failure: Failure, own: list[Log]) -> Hit | None:
    """Give a failure the rule of the line that explains it best. Returns that line."""
    about = logs.subject(failure.evidence)
    asked = about is not None or (failure.rule or "").startswith(_REQUESTS)

    def fits(rule: Rule) -> bool:
        return (asked and rule.severity == "fatal") or failure.check in rule.explains

    candidates = [(log, finding) for log in own for finding in log.findings if fits(finding.rule)]
    if not candidates:
        return None
    log, finding = min(candidates, key=lambda entry: _rank(*entry))
    rule, hit = finding.rule, finding.hits[0]
    failure.rule, failure.hint, failure.line = rule.id, rule.hint, log.shown(hit)
    if failure.class_ in _OPEN and not failure.spoils_judgement:
        failure.class_ = rule.class_
    return hit


def _rank(log: Log, finding: Finding) -> tuple[int, int, float, str, int]:
    """Order what explains a failure: what says more of the cause first, then what was first."""
    first = finding.hits[0]
    return (
        WEIGHTS.index(finding.rule.weight),
        0 if finding.rule.severity == "fatal" else 1,
        _NOWHERE if first.at is None else first.at,
        log.file,
        first.line,
    )


def _last_words(failure: Failure, own: list[Log]) -> LogLine | None:
    """Return the last line of a service's log when its failure was noticed; it may have said more when it was ended."""
    words = failure.evidence.splitlines()
    of_service = [log for log in own if log.place == "services"]
    if len(words) > 1 and words[-1].strip():
        seen = next((line for log in of_service if (line := logs.find(log, [words[-1].strip()], last=True))), None)
        if seen:
            return seen
    return next((line for log in of_service if (line := logs.last_line(log))), None)


def _where(evidence: str, trial: str | None, found: list[Log]) -> LogLine | None:
    """Return the line of a trial's logs that an evidence has its words from."""
    words = evidence.partition("\n")[0].strip()
    own = [log for log in found if log.folder == logs.slug(trial) and log.place == "services"]
    return next((line for log in own if words and (line := logs.find(log, [words]))), None)


def _task(failure: Failure, found: list[Log]) -> LogLine | None:
    """Return the line of Ansible's output that tells of a failed task."""
    node = failure.unfit_node or failure.evidence.partition(":")[0].partition(" ")[0]
    of_trial = [log for log in found if log.place == "ansible" and log.path.stem.startswith(failure.check)]
    exact = f"{failure.check}-{logs.slug(failure.trial)}"
    ordered = sorted(of_trial, key=lambda log: log.path.stem != exact)
    for words in ([f"fatal: [{node}]"], ["fatal: ["], ["[ERROR]:"], ["ERROR!"]):
        for log in ordered:
            line = logs.find(log, words)
            if line:
                named = line.text.partition("[")[2].partition("]")[0] if words[0].startswith("fatal") else None
                return line.model_copy(update={"host": named})
    return None


def _exchange(failure: Failure, found: list[Log]) -> LogLine | None:
    """Return the line of the trial's exchanges that shows the answer."""
    status = (failure.rule or "").partition("http.")[2]
    words = ["< HTTP " + status] if status.isdigit() else ["! "]
    own = (log for log in found if log.folder == logs.slug(failure.trial) and log.path.name == logs.REQUESTS)
    return next((line for log in own if (line := logs.find(log, words))), None)
