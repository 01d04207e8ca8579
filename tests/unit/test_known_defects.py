"""Defects that a declaration knows of a version: what shows, what is gone, and what they do not hide."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyharness import case as cases
from pyharness import known_defects, lifecycle, verdict_lines, versions
from pyharness.html_report import page
from pyharness.lifecycle import resume
from pyharness.options import Options
from pyharness.results_dir import ResultsDir, junit_suite
from pyharness.verification.base import CheckFailed
from tests.unit.builders import make_check, make_deployment, make_failure, make_report
from tests.unit.world import CASE, MODELS, World

if TYPE_CHECKING:
    from pyharness.results import Failure, Report
    from pyharness.verification.node_probe import Nodes

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

DEFECT: dict[str, Any] = {
    "check": "usage_counts",
    "evidence": r"prompt_tokens is \d+",
    "package": "ai-dynamo-runtime",
    "version": "1.6.1",
    "reason": "counts generated tokens",
}
TOLD = "usage is wrong\n  prompt_tokens is 51, and the prompt has 32"
OPTIONS = Options(test_case="test_it", inventory=Path("inventories/it"), results=Path("run"))


def declared(**changes: Any) -> cases.TestCase:
    known = cases.load(CASE).model_dump(by_alias=True)
    return cases.TestCase.model_validate({**known, "known_defects": [{**DEFECT, **changes}]})


def judged(
    *failures: Failure,
    case: cases.TestCase | None = None,
    version: str | None = "1.6.1",
    checks: dict[str, Any] | None = None,
    cut_short: bool = False,
) -> Report:
    """Return the judged report of one trial; a check that has failed stands there as failed."""
    found = {"usage_counts": "pass", "answer_correct": "pass", **{failure.check: "fail" for failure in failures}}
    made = [make_check(name, status).model_dump() for name, status in {**found, **(checks or {})}.items() if status]
    report = make_report(
        models=[{"name": "org/model", "checks": made}],
        failures=[failure.model_dump(by_alias=True) for failure in failures],
        versions={"ai_dynamo.runtime": version} if version else {},
    )
    known_defects.settle(report, report.models[0], case or declared(), cut_short=cut_short)
    report.judge()
    return report


def shown(**changes: Any) -> Failure:
    return make_failure(**{"check": "usage_counts", "evidence": TOLD, "spoils_judgement": True, **changes})


def states(report: Report) -> list[str]:
    return [seen.state for seen in report.known_defects]


def test_a_known_defect_that_shows_fails_its_trial_and_not_the_run() -> None:
    report = judged(shown())
    (failure,) = report.failures
    assert (failure.class_, failure.known, failure.spoils_judgement) == ("product", True, False)
    assert failure.hint == "known of ai-dynamo-runtime 1.6.1: counts generated tokens"
    assert (report.models[0].verdict, report.verdict) == ("fail", "pass")
    expected = report.models[0].expected
    assert expected is not None
    assert (expected.kind, expected.check, expected.whole) == ("known_defect", "usage_counts", True)
    (seen,) = report.known_defects
    assert (seen.state, seen.found_version, seen.evidence) == (
        "shows",
        "1.6.1",
        "prompt_tokens is 51, and the prompt has 32",
    )


def test_the_verdict_in_words_says_so() -> None:
    report = judged(shown())
    text = verdict_lines.as_text(report, OPTIONS)
    assert "known, product: usage_counts (org/model): usage is wrong" in text
    assert "PASS with 1 known defect test_it: 0 of 1 models passed, 1 failed by known defects alone" in text


def test_it_does_not_hide_another_failure() -> None:
    report = judged(shown(), make_failure())
    assert [failure.known for failure in report.failures] == [True, False]
    assert (report.models[0].verdict, report.models[0].expected, report.verdict) == ("fail", None, "fail")
    assert states(report) == ["shows"]


def test_beside_what_could_not_be_judged_the_run_is_an_error() -> None:
    report = judged(shown(), make_failure(check="other", **{"class": "infrastructure"}))
    assert (report.models[0].verdict, report.verdict) == ("error", "error")


def test_where_it_is_gone_in_the_same_version_the_declaration_is_out_of_date() -> None:
    report = judged()
    (failure,) = report.failures
    assert (failure.class_, failure.check, failure.trial) == ("test", "known_defects", "org/model")
    assert "was to show a defect of ai-dynamo-runtime 1.6.1 (counts generated tokens), and passed" in failure.evidence
    assert (report.verdict, states(report)) == ("error", ["gone"])


def test_one_that_does_not_show_each_time_is_no_alarm_and_known_where_it_does() -> None:
    absent = judged(case=declared(intermittent=True))
    assert (absent.verdict, absent.failures, states(absent)) == ("pass", [], ["not_judged"])
    there = judged(shown(spoils_judgement=False), case=declared(intermittent=True))
    assert (there.failures[0].known, states(there)) == (True, ["shows"])


def test_where_it_is_gone_in_another_version_that_is_a_note() -> None:
    report = judged(version="1.7.0")
    assert (report.verdict, report.failures, states(report)) == ("pass", [], ["gone"])
    assert (
        "note: usage_counts (org/model): a defect of ai-dynamo-runtime 1.6.1 does not show with 1.7.0"
        in verdict_lines.as_text(report, OPTIONS)
    )


@pytest.mark.parametrize(("version", "told"), [("1.7.0", "is 1.7.0 here"), (None, "is not there")])
def test_in_another_version_it_is_a_failure_like_any(version: str | None, told: str) -> None:
    report = judged(shown(spoils_judgement=False), version=version)
    (failure,) = report.failures
    assert not failure.known
    assert "this was known of ai-dynamo-runtime 1.6.1" in failure.hint
    assert told in failure.hint
    assert (report.verdict, states(report)) == ("fail", ["not_judged"])


@pytest.mark.parametrize(
    "changes", [{"evidence": "completion_tokens is 3"}, {"class": "infrastructure"}, {"class": "test"}]
)
def test_in_other_words_or_of_another_class_it_is_another_failure(changes: dict[str, Any]) -> None:
    report = judged(shown(**changes))
    assert not report.failures[0].known
    assert states(report) == ["not_judged"]
    assert report.verdict != "pass"


@pytest.mark.parametrize("status", ["skipped", None])
def test_a_check_that_was_not_made_says_nothing_of_the_defect(status: str | None) -> None:
    report = judged(checks={"usage_counts": status})
    assert (states(report), report.failures) == (["not_judged"], [])


def test_where_the_package_is_not_there_nothing_follows() -> None:
    report = judged(version=None)
    assert (states(report), report.verdict) == (["not_judged"], "pass")


@pytest.mark.parametrize(
    "cut", [{"cut_short": True}, {"checks": {"answer_correct": "skipped"}}, {"checks": {"answer_correct": None}}]
)
def test_a_trial_that_it_cut_short_has_not_passed(cut: dict[str, Any]) -> None:
    report = judged(shown(), **cut)
    assert report.models[0].expected is not None
    assert (report.models[0].expected.whole, report.verdict) == (False, "fail")


def test_a_trial_that_it_cut_short_leaves_the_verdict_to_the_others() -> None:
    report = judged(shown(), cut_short=True)
    other = make_report(models=[{"name": "org/other", "checks": [make_check().model_dump()]}]).models[0]
    report.models.append(other)
    assert report.judge() == "pass"


def test_what_comes_to_it_later_counts() -> None:
    report = judged(shown())
    report.failures.append(make_failure(check="logs_clean"))
    assert (report.judge(), report.models[0].expected) == ("fail", None)


def test_only_the_variants_that_have_it_are_looked_at() -> None:
    known = declared().model_dump(by_alias=True)
    defects = [{**DEFECT, "variants": ["migration"]}]
    case = cases.TestCase.model_validate({**known, "variants": [{"name": "migration"}], "known_defects": defects})
    assert states(judged(case=case)) == []


def test_in_junit_it_is_no_failure_but_is_shown() -> None:
    element = junit_suite(judged(shown()))
    assert (element.get("failures"), element.get("skipped")) == ("0", "1")
    assert "known of ai-dynamo-runtime 1.6.1: counts generated tokens" in ET.tostring(element, encoding="unicode")


def test_on_the_page_it_is_no_first_cause() -> None:
    model = page.model(judged(shown()), None, [])
    assert (model["first"], model["words"]) == (None, "passed with 1 known defect")
    model = page.model(judged(shown(), make_failure()), None, [])
    assert model["first"]["it"].check == "answer_correct"


# -- whole runs


@pytest.fixture
def known_world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    case = declared(check="answer_correct", evidence="wrong text", package="demo", version="1.0")
    monkeypatch.setattr(cases, "load", lambda _name: case)
    return world


def test_a_run_whose_only_failures_are_known_passes_and_says_so(known_world: World) -> None:
    def wrong() -> None:
        raise CheckFailed("wrong text", hint="look")

    known_world.on["answer_correct"] = wrong
    report = known_world.live()
    assert [model.verdict for model in report.models] == ["fail", "fail"]
    assert (report.verdict, states(report), report.told_verdict) == (
        "pass",
        ["shows", "shows"],
        "pass with 1 known defect",
    )
    assert {failure.rule for failure in report.failures} == {"declared.known_defect"}
    # It hides nothing: the logs of such a trial are judged like any other's. Here they are not there.
    assert [check.evidence["reason"] for model in report.models for check in model.checks if check.id == "logs_clean"]
    assert "Known defects" in (known_world.results / CASE / "report.html").read_text()


def test_in_one_trial_it_shows_and_in_the_other_it_is_gone(known_world: World) -> None:
    def wrong() -> None:
        known_world.on.pop("answer_correct")
        raise CheckFailed("wrong text", hint="look")

    known_world.on["answer_correct"] = wrong
    report = known_world.live()
    assert states(report) == ["shows", "gone"]
    assert report.verdict == "error"
    assert [(failure.check, failure.rule) for failure in report.failures] == [
        ("known_defects", "declared.outdated"),
        ("answer_correct", "declared.known_defect"),
    ]


def test_a_trial_that_is_kept_by_resume_is_looked_at_again(known_world: World) -> None:
    first = known_world.live(models=(MODELS[0],))
    assert states(first) == ["gone"]
    run = lifecycle.run.Run(
        Options(test_case=CASE, inventory=known_world.inventory, results=known_world.results, models=(MODELS[0],)),
        cases.load(CASE),
        ResultsDir(known_world.results, CASE, goes_on=True),
        resume.Earlier(first, [], []),
    )
    run.report.models[0] = first.models[0]
    lifecycle.trials.judge_all(run)
    assert (states(run.report), [failure.check for failure in run.report.failures]) == (["gone"], ["known_defects"])


# -- declarations


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 1.6}, "has to be in quotation marks"),
        ({"evidence": "("}, "has to be a regular expression"),
        ({"variants": ["none"]}, "known_defects: none is not one of variants"),
        ({"reason": ""}, "at least 1 character"),
    ],
)
def test_a_mistake_in_the_declaration_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declared(**changes)


def test_the_version_of_any_package_of_the_environment_is_found() -> None:
    listing = "ai_dynamo_runtime-1.6.1.dist-info\nsglang-0.5.23.dist-info\nother-2.dist-info\n"
    host = SimpleNamespace(run=lambda _command: SimpleNamespace(stdout=listing))
    nodes = cast("Nodes", SimpleNamespace(host=lambda _name: host))
    found = versions.of(make_deployment(), nodes, ["ai-dynamo.runtime", "SGLang", "nowhere"])
    assert (found["ai-dynamo.runtime"], found["nowhere"], found["sglang"]) == ("1.6.1", None, "0.5.23")
    assert "SGLang" not in found
