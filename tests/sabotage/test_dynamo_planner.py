"""Engines that are slower than declared, and a planner that is refused in other words: test_dynamo_planner says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness.verification.dynamo import planner_program

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from tests.sabotage.conftest import Site

requires = ["dynamo", "etcd"]
pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.dynamo]

CASE = "test_dynamo_planner"


@pytest.mark.pre_merge
def test_an_engine_that_is_too_slow_wants_more_replicas_and_two_do_not_do(real_site: Site) -> None:
    slow = {"speedup_ratio": 0.15, "seconds": 2}
    report = real_site.run(CASE, variants=("scaling",), extra_vars={"disagg_workloads": {CASE: slow}})

    assert report.verdict == "fail", report.failures
    failed = {failure.check: failure.evidence for failure in report.failures}
    assert failed.keys() == {"replicas_at_first", "replicas_at_twice_the_load", "load_relieved"}
    assert "P1D by the planner's sums, instead of 1P1D" in failed["replicas_at_first"]
    assert "s are promised" in failed["load_relieved"]


@pytest.mark.nightly
def test_a_planner_that_is_refused_in_other_words_is_a_failure(
    real_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The declaration knows one refusal; another one is not taken for it."""
    run = planner_program._program

    def other(trial: Trial, arguments: list[str]) -> dict[str, object]:
        told = run(trial, arguments)
        return {**told, "error": "ImportError: something else"}

    monkeypatch.setattr(planner_program, "_program", other)
    report = real_site.run(CASE, variants=("planner",))

    assert report.verdict == "fail", report.failures
    (failure,) = report.failures
    assert failure.evidence == "python -m dynamo.planner ends with status 1: ImportError: something else"
