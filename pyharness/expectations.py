"""What a declaration expects of a variant: that a platform refuses it, or that a known defect shows.

Both are attempted like everything else. A refusal or a defect that does not show any more is a failure: then the
declaration is out of date, and says of the product what is not so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.declared import line_of
from pyharness.results import Expected, Failure

if TYPE_CHECKING:
    from pyharness.case import TestCase
    from pyharness.declared import ExpectedFailure, Unsupported
    from pyharness.results import ModelResult


def settle(result: ModelResult, failures: list[Failure], case: TestCase, platform: str | None) -> None:
    """Compare what a trial gave with what its variant declares.

    Args:
        result: the trial; takes what was expected and found.
        failures: the run's failures; the trial's own are replaced by what they mean.
        case: the declaration.
        platform: what the engine runs on; None where that is not known, so that the words of a refusal decide.
    """
    variant = case.variant(result.variant)
    if variant is None:
        return
    own = [failure for failure in failures if failure.trial == result.trial and not failure.known]
    if variant.unsupported and platform in (None, variant.unsupported.platform):
        _unsupported(variant.unsupported, result, own, failures)
    elif variant.expected_failure:
        _expected_failure(variant.expected_failure, result, own, failures)


def _unsupported(declared: Unsupported, result: ModelResult, own: list[Failure], failures: list[Failure]) -> None:
    if not own and not declared.always:
        return
    if not own:
        told = (
            f"{result.trial} is declared unsupported on {declared.platform} ({declared.reason}), but it ran and passed"
        )
        failures.append(_outdated("unsupported", told, result.trial))
        return
    for failure in own:
        line = line_of(declared.refusal, failure.evidence)
        if line:
            refused = failure.model_copy(
                update={
                    "class_": "unsupported",
                    "evidence": line,
                    "hint": declared.reason,
                    "spoils_judgement": False,
                }
            )
            failures[:] = [entry for entry in failures if entry not in own] + [refused]
            result.expected = Expected(kind="unsupported", reason=declared.reason, check=failure.check, evidence=line)
            return


def _expected_failure(
    declared: ExpectedFailure, result: ModelResult, own: list[Failure], failures: list[Failure]
) -> None:
    if not own:
        told = f"{result.trial} was to fail {declared.check} ({declared.reason}), and passed: the defect is gone"
        failures.append(_outdated("expected_failure", told, result.trial))
        return
    if {failure.check for failure in own} != {declared.check}:
        return
    lines = [line_of(declared.evidence, failure.evidence) for failure in own]
    if all(lines):
        for failure in own:
            failure.spoils_judgement = False  # it says nothing about the other trials
        result.expected = Expected(kind="failure", reason=declared.reason, check=declared.check, evidence=str(lines[0]))


def _outdated(key: str, told: str, trial: str) -> Failure:
    hint = f"remove {key} of this variant from the declaration, once you have seen why"
    return Failure(class_="test", check=key, evidence=told, hint=hint, trial=trial)
