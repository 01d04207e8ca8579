"""Defects that a declaration knows of a version: each is kept as a check, and is told of when it is gone.

A defect that shows hides nothing: only its own failure is known, all else of its trial counts. One that does not show
any more, in the version that has it, is a failure of the declaration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyharness.declared import line_of, same_name
from pyharness.results import Expected, Failure, KnownDefectSeen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyharness.case import TestCase
    from pyharness.declared import KnownDefect
    from pyharness.results import ModelResult, Report

CHECK = "known_defects"
State = Literal["shows", "gone", "not_judged"]


def settle(report: Report, result: ModelResult, case: TestCase, *, cut_short: bool) -> None:
    """Compare what a trial gave with the defects that its declaration knows.

    Args:
        report: the run's; takes what was seen, and the failures of declarations that are out of date. The trial's
            failures that show a known defect are marked.
        result: the trial; its expectation is set where nothing but known defects failed.
        case: the declaration.
        cut_short: whether the trial was given up before its last check.
    """
    shown: list[tuple[KnownDefect, Failure]] = []
    for defect in case.known_defects:
        if defect.variants and result.variant not in defect.variants:
            continue
        version = _version(report.versions, defect.package)
        state, evidence, failure = _look(defect, report, result, version)
        if failure:
            shown.append((defect, failure))
        report.known_defects.append(
            KnownDefectSeen(
                trial=result.trial,
                check=defect.check,
                package=defect.package,
                version=defect.version,
                found_version=version,
                state=state,
                reason=defect.reason,
                reference=defect.reference,
                evidence=evidence,
            )
        )
        if state == "gone" and version == defect.version:
            report.failures.append(_gone(defect, result))
    own = [failure for failure in report.failures if failure.trial == result.trial]
    if shown and all(failure.known for failure in own):
        defect, failure = shown[0]
        line = failure.evidence.partition("\n")[0]
        result.expected = Expected(
            kind="known_defect", reason=defect.about, check=defect.check, evidence=line, whole=not cut_short
        )


def _look(
    defect: KnownDefect, report: Report, result: ModelResult, version: str | None
) -> tuple[State, str, Failure | None]:
    """Say what a trial shows of a defect, with its evidence, and the failure where it shows."""
    place = (result.trial, defect.check)
    failures = [failure for failure in report.failures if (failure.trial, failure.check) == place]
    lines = [(failure, line_of(defect.evidence, failure.evidence)) for failure in failures]
    matching = [(failure, line) for failure, line in lines if line is not None and failure.class_ == "product"]
    if matching and version == defect.version:
        for failure, _line in matching:
            failure.known, failure.spoils_judgement = True, False
            failure.hint = f"known of {defect.about}"
        return "shows", matching[0][1], matching[0][0]
    if matching:
        here = f"{defect.package} is {version} here" if version else f"{defect.package} is not there"
        for failure, _line in matching:
            failure.hint += f"; this was known of {defect.about}. If it is the same ({here}), declare it so"
        return "not_judged", f"it shows, but {here}: {matching[0][1]}", None
    if failures:
        first = failures[0].evidence.partition("\n")[0]
        return "not_judged", f"its check failed otherwise: {first}", None
    made = next((check for check in result.checks if check.id == defect.check), None)
    if made is None or made.status != "pass":
        reason = made.evidence.get("reason") if made else None
        return "not_judged", str(reason or "its check was not made"), None
    if defect.intermittent or version is None:
        why = "it does not show each time" if defect.intermittent else f"{defect.package} is not there"
        return "not_judged", f"its check passed, and {why}", None
    return "gone", f"its check passed with {defect.package} {version}", None


def _gone(defect: KnownDefect, result: ModelResult) -> Failure:
    told = (
        f"{result.trial}: {defect.check} was to show a defect of {defect.package} {defect.version} "
        f"({defect.reason}), and passed: the defect is gone"
    )
    hint = "remove it from known_defects in the declaration, once you have seen why"
    return Failure(class_="test", check=CHECK, evidence=told, hint=hint, trial=result.trial)


def _version(versions: Mapping[str, str | None], package: str) -> str | None:
    return next((found for name, found in versions.items() if same_name(name) == same_name(package)), None)
