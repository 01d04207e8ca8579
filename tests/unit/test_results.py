"""The verdict, and the form of report.json."""

from __future__ import annotations

import json
import re

import pytest

from pyharness import results
from tests.unit.builders import make_check, make_failure, make_report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def two_models() -> list[results.ModelResult]:
    return [results.ModelResult(name=name, checks=[make_check()]) for name in ("org/model", "org/other")]


def test_everything_right_is_a_pass() -> None:
    report = make_report()
    assert report.judge() == "pass"
    assert report.models[0].verdict == "pass"


def test_a_product_failure_is_a_fail() -> None:
    report = make_report(failures=[make_failure()])
    assert report.judge() == "fail"
    assert report.models[0].verdict == "fail"


@pytest.mark.parametrize("class_", ["test", "infrastructure", "configuration", "unsupported", "unknown"])
def test_any_other_failure_is_an_error(class_: str) -> None:
    assert make_report(failures=[make_failure(**{"class": class_})]).judge() == "error"


def test_a_product_failure_beside_another_is_a_fail() -> None:
    report = make_report(failures=[make_failure(**{"class": "infrastructure"}), make_failure()])
    assert report.judge() == "fail"


def test_what_spoils_the_judgement_makes_even_a_product_failure_an_error() -> None:
    spoiled = make_failure(**{"class": "configuration", "spoils_judgement": True})
    report = make_report(failures=[make_failure(), spoiled])
    assert report.judge() == "error"
    assert report.models[0].verdict == "error"


def test_a_failure_of_one_model_leaves_the_other_its_pass() -> None:
    report = make_report(models=[model.model_dump() for model in two_models()], failures=[make_failure()])
    assert report.judge() == "fail"
    assert [model.verdict for model in report.models] == ["fail", "pass"]


def test_a_failure_of_the_run_is_no_models_own() -> None:
    report = make_report(failures=[make_failure(**{"trial": None, "class": "infrastructure"})])
    assert report.judge() == "error"
    assert report.models[0].verdict == "pass"


def test_a_model_without_checks_is_not_judged() -> None:
    unchecked = results.ModelResult(name="org/other")
    report = make_report(models=[two_models()[0].model_dump(), unchecked.model_dump()])
    assert report.judge() == "error"
    assert [model.verdict for model in report.models] == ["pass", "error"]


EXPECTED = {"kind": "failure", "reason": "known", "check": "hit", "evidence": "0 tokens"}


def test_a_trial_that_went_as_declared_leaves_the_verdict_to_the_others() -> None:
    models = [two_models()[0].model_dump(), {**two_models()[1].model_dump(), "expected": EXPECTED}]
    report = make_report(models=models, failures=[make_failure(trial="org/other")])
    assert report.judge() == "pass"
    assert [model.verdict for model in report.models] == ["pass", "fail"]


@pytest.mark.parametrize(("class_", "verdict"), [("product", "fail"), ("unsupported", "error")])
def test_where_nothing_else_was_judged_what_was_expected_is_the_verdict(class_: str, verdict: str) -> None:
    models = [{**two_models()[0].model_dump(), "expected": EXPECTED}]
    report = make_report(models=models, failures=[make_failure(**{"class": class_})])
    assert report.judge() == verdict


def test_a_refusal_before_any_check_leaves_the_run_complete() -> None:
    refused = {"name": "org/other", "expected": {**EXPECTED, "kind": "unsupported"}}
    failure = make_failure(**{"class": "unsupported", "trial": "org/other"})
    report = make_report(models=[two_models()[0].model_dump(), refused], failures=[failure])
    assert report.judge() == "pass"
    assert [model.verdict for model in report.models] == ["pass", "error"]


def test_no_model_at_all_is_an_error() -> None:
    assert make_report(models=[]).judge() == "error"


def test_an_unjudged_report_is_an_error() -> None:
    assert make_report().verdict == "error"


def test_the_exit_codes() -> None:
    assert results.EXIT_CODES == {"pass": 0, "fail": 1, "error": 2, "flaky": 1}


def test_the_report_has_the_contracts_keys() -> None:
    document = make_report(failures=[make_failure()]).to_json()
    wanted = {
        "schema_version", "test_case", "run_id", "verdict", "started_at", "finished_at", "inventory", "engine",
        "runtime", "phases", "models", "transport", "versions", "artifacts", "failures",
    }  # fmt: skip
    assert wanted <= set(document)
    assert document["schema_version"] == 1
    assert set(document["models"][0]) >= {"name", "verdict", "checks"}
    assert set(document["models"][0]["checks"][0]) >= {"id", "status", "evidence"}
    assert set(document["transport"]) >= {"requested", "used", "evidence"}
    assert set(document["artifacts"]) == {"wheel", "image"}
    assert set(document["failures"][0]) >= {"class", "check", "evidence", "hint"}
    json.dumps(document)


def test_what_is_unknown_is_null() -> None:
    document = make_report().to_json()
    assert document["finished_at"] is None
    assert document["runtime"] is None
    assert document["transport"]["used"] is None
    assert document["artifacts"] == {"wheel": None, "image": None}


def test_half_a_surrogate_pair_becomes_something_that_can_be_written() -> None:
    assert make_failure(evidence="text \ud800!").evidence == "text ?!"


def test_a_time_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", results.now())


def test_requests_side_by_side_take_each_moment_once() -> None:
    def asked(at: float, seconds: float | None) -> results.Event:
        return results.Event(at=at, kind="request", text="POST", seconds=seconds)

    timing = results.Timing(engine_start=2.0)
    started = results.Event(at=90.0, kind="phase", text="deploy", seconds=9.0)
    timing.sum_up(
        20.0, [asked(103.0, 4.0), asked(100.0, 5.0), started, asked(101.0, 1.0), asked(110.0, 0.5), asked(120.0, None)]
    )
    assert (timing.inference, timing.own) == (7.5, 10.5)
