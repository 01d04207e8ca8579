"""How checks are run and recorded, and whose failure a broken check is."""

from __future__ import annotations

import pytest

from pyharness.interrupt import Interrupted
from pyharness.results import Check, Failure
from pyharness.verification.base import CheckFailed, Evidence, Recorder
from pyharness.verification.node_probe import NodeError

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def recorder() -> Recorder:
    return Recorder("org/model", [])


def raising(error: Exception) -> Evidence:
    raise error


def test_a_check_that_holds_is_kept_with_its_evidence() -> None:
    told: list[tuple[Check, str]] = []
    subject = Recorder("org/model", [], on_result=lambda check, message: told.append((check, message)))
    assert subject.run("answer_correct", lambda: {"text": "hello"})
    (check,) = subject.checks
    assert (check.id, check.status, check.evidence) == ("answer_correct", "pass", {"text": "hello"})
    assert told == [(check, "")]
    assert not subject.failures


def test_a_check_that_fails_is_a_failure_with_evidence_and_hint() -> None:
    subject = recorder()
    failed = CheckFailed("wrong", {"text": "x"}, hint="look", class_="configuration", spoils_judgement=True)
    assert not subject.run("wheel_in_use", lambda: raising(failed))
    assert (subject.checks[0].status, subject.checks[0].evidence) == ("fail", {"text": "x"})
    assert subject.failures == [
        Failure(
            class_="configuration",
            check="wheel_in_use",
            evidence="wrong",
            hint="look",
            trial="org/model",
            spoils_judgement=True,
        )
    ]


def test_a_check_fails_for_the_product_unless_it_says_otherwise() -> None:
    subject = recorder()
    subject.run("answer_correct", lambda: raising(CheckFailed("wrong", hint="look")))
    assert (subject.failures[0].class_, subject.failures[0].spoils_judgement) == ("product", False)


def test_a_node_that_cannot_be_asked_is_the_infrastructures() -> None:
    subject = recorder()
    assert not subject.run("nodes_clean", lambda: raising(NodeError("two", "no route")))
    assert (subject.failures[0].class_, subject.failures[0].evidence) == (
        "infrastructure",
        "two cannot be asked: no route",
    )


def test_a_check_that_breaks_is_the_tests_failure_never_the_products() -> None:
    subject = recorder()
    assert not subject.run("answer_correct", lambda: raising(KeyError("text")))
    assert subject.failures[0].class_ == "test"
    assert subject.failures[0].evidence == "the check itself broke: KeyError: 'text'"


def test_an_interrupt_is_no_result() -> None:
    subject = recorder()
    with pytest.raises(Interrupted):
        subject.run("answer_correct", lambda: raising(Interrupted("SIGINT")))
    assert (subject.checks, subject.failures) == ([], [])


def test_a_skipped_check_says_why_and_is_no_failure() -> None:
    subject = recorder()
    subject.skip("kv_cache_moved", "no answer")
    assert (subject.checks[0].status, subject.checks[0].evidence) == ("skipped", {"reason": "no answer"})
    assert not subject.failures
