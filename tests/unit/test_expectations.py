"""What a declaration expects of a variant, against what a trial gave."""

from __future__ import annotations

import pytest

from pyharness import case, expectations
from pyharness.results import Failure, ModelResult
from tests.unit.builders import make_failure

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

VARIANTS = [
    {"name": "plain"},
    {"name": "refused", "unsupported": {"platform": "cpu", "refusal": "needs CUDA", "reason": "no kernel for a CPU"}},
    {"name": "broken", "expected_failure": {"check": "hit", "evidence": r"served 0 of \d+", "reason": "since 0.5.23"}},
]


def declared() -> case.TestCase:
    known = case.load("test_1p1d_erdma").model_dump(by_alias=True)
    return case.TestCase.model_validate({**known, "variants": VARIANTS})


def settled(variant: str, *failures: Failure, platform: str | None = "cpu") -> tuple[ModelResult, list[Failure]]:
    result, left = ModelResult(name="org/model", variant=variant), list(failures)
    expectations.settle(result, left, declared(), platform)
    return result, left


def failed(variant: str, evidence: str, check: str = "hit") -> Failure:
    trial = f"org/model [{variant}]"
    return make_failure(check=check, evidence=evidence, trial=trial, spoils_judgement=True)


def test_a_refusal_in_the_declared_words_is_unsupported_and_spoils_nothing() -> None:
    other = make_failure(trial="org/other")
    evidence = "service single has ended:\n  RuntimeError: needs CUDA 12\nbye"
    result, failures = settled("refused", other, failed("refused", evidence, "services_ready"))
    assert failures[0] == other
    (refusal,) = failures[1:]
    assert (refusal.class_, refusal.evidence, refusal.hint) == (
        "unsupported",
        "RuntimeError: needs CUDA 12",
        "no kernel for a CPU",
    )
    assert not refusal.spoils_judgement
    assert result.expected is not None
    assert (result.expected.kind, result.expected.check) == ("unsupported", "services_ready")


def test_another_refusal_is_the_failure_that_it_is() -> None:
    failure = failed("refused", "Address already in use", "services_ready")
    result, failures = settled("refused", failure)
    assert (result.expected, failures) == (None, [failure])


def test_what_is_declared_unsupported_and_runs_is_a_failure_of_the_declaration() -> None:
    result, (failure,) = settled("refused")
    assert (failure.class_, failure.check, result.expected) == ("test", "unsupported", None)
    assert failure.evidence.startswith("org/model [refused] is declared unsupported on cpu")


def test_what_depends_on_the_node_may_run() -> None:
    whole = declared()
    refused = whole.variants[1]
    assert refused.unsupported is not None
    sometimes = refused.unsupported.model_copy(update={"always": False})
    case_ = whole.model_copy(update={"variants": [refused.model_copy(update={"unsupported": sometimes})]})
    result, failures = ModelResult(name="org/model", variant="refused"), list[Failure]()
    expectations.settle(result, failures, case_, "cpu")
    assert (result.expected, failures) == (None, [])


def test_on_another_platform_an_unsupported_variant_is_like_any_other() -> None:
    failure = failed("refused", "needs CUDA 13")
    result, failures = settled("refused", failure, platform="cuda")
    assert (result.expected, failures) == (None, [failure])


def test_where_the_platform_is_not_known_the_words_decide() -> None:
    result, _failures = settled("refused", failed("refused", "needs CUDA 13"), platform=None)
    assert result.expected is not None


def test_a_known_defect_that_shows_is_expected_and_stays_a_failure_of_the_trial() -> None:
    result, failures = settled("broken", failed("broken", "served 0 of 244 tokens from storage"))
    assert result.expected is not None
    assert (result.expected.kind, result.expected.evidence) == ("failure", "served 0 of 244 tokens from storage")
    assert [failure.spoils_judgement for failure in failures] == [False]


def test_a_known_defect_that_is_gone_is_an_alarm() -> None:
    result, (failure,) = settled("broken")
    assert (failure.class_, failure.check, result.expected) == ("test", "expected_failure", None)
    assert "the defect is gone" in failure.evidence


@pytest.mark.parametrize(("check", "evidence"), [("text", "served 0 of 244"), ("hit", "served 12 of 244")])
def test_another_failure_than_the_known_one_counts(check: str, evidence: str) -> None:
    result, _failures = settled("broken", failed("broken", evidence, check))
    assert result.expected is None


def test_a_second_failure_beside_the_known_one_counts() -> None:
    result, _failures = settled("broken", failed("broken", "served 0 of 244"), failed("broken", "other", "text"))
    assert result.expected is None


def test_a_variant_without_expectation_is_left_alone() -> None:
    failure = failed("plain", "needs CUDA")
    result, failures = settled("plain", failure)
    assert (result.expected, failures) == (None, [failure])
