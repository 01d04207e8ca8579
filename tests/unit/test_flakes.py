"""The ledger of known flakes: strict, with an owner and an end for each."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import flakes
from pyharness.errors import UsageError
from tests.unit.builders import make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

TODAY = date(2026, 11, 21)
ENTRY = """\
- test_case: test_1p1d_erdma
  check: answer_correct
  evidence: HTTP 503
  owner: mia@example.com
  reason: the router forgets its servers
  issue: https://example.com/issues/7
  until: 2026-12-01
"""


def ledger(tmp_path: Path, content: str = ENTRY) -> list[flakes.KnownFlake]:
    path = tmp_path / "known_flakes.yml"
    path.write_text(content if content.startswith(("it", "- [")) else "known_flakes:\n" + content)
    return flakes.read(path)


def run(*failures: dict[str, Any], case: str = "test_1p1d_erdma") -> Any:
    told = [
        make_failure(**{"evidence": "HTTP 503: sorry", **changes}).model_dump(by_alias=True) for changes in failures
    ]
    return make_report(test_case=case, failures=told)


def test_the_projects_own_ledger_is_right_and_nothing_in_it_is_overdue() -> None:
    assert flakes.expired(date.today()) == []  # noqa: DTZ011 (days end where the person is)


def test_a_ledger_that_is_not_there_has_no_entry(tmp_path: Path) -> None:
    assert flakes.read(tmp_path / "none.yml") == []


def test_a_failure_that_is_written_down_is_known(tmp_path: Path) -> None:
    found = flakes.known(run({}), TODAY, ledger(tmp_path))
    assert found is not None
    assert found.owner == "mia@example.com"


def test_a_rule_will_do_in_the_place_of_a_check(tmp_path: Path) -> None:
    entries = ledger(tmp_path, ENTRY.replace("check: answer_correct", "rule: http.503"))
    assert flakes.known(run({"rule": "http.503"}), TODAY, entries) is not None
    assert flakes.known(run({"rule": "http.500"}), TODAY, entries) is None


@pytest.mark.parametrize(
    "report",
    [
        run(),
        run({"evidence": "HTTP 500"}),
        run({"check": "router_ready"}),
        run({}, case="test_vllm_1p1d_erdma"),
        run({}, {"check": "kv_cache_moved", "evidence": "no byte"}),
    ],
    ids=["passed", "other_evidence", "other_check", "other_case", "one_more"],
)
def test_what_is_not_written_down_is_not_known(report: Any, tmp_path: Path) -> None:
    assert flakes.known(report, TODAY, ledger(tmp_path)) is None


def test_consequences_need_no_entry(tmp_path: Path) -> None:
    report = run({}, {"check": "kv_cache_moved", "consequence": True})
    assert flakes.known(report, TODAY, ledger(tmp_path)) is not None


def test_an_entry_may_be_of_one_trial(tmp_path: Path) -> None:
    entries = ledger(tmp_path, ENTRY + "  trial: org/model\n")
    assert flakes.known(run({}), TODAY, entries) is not None
    assert flakes.known(run({"trial": "org/other"}), TODAY, entries) is None


def test_an_entry_past_its_date_is_an_error_with_its_owner_and_covers_nothing(tmp_path: Path) -> None:
    entries = ledger(tmp_path)
    assert flakes.expired(date(2026, 12, 1), entries) == []
    (line,) = flakes.expired(date(2026, 12, 2), entries)
    assert "test_1p1d_erdma answer_correct: was to be mended by 2026-12-01" in line
    assert "mia@example.com: mend it" in line
    assert flakes.known(run({}), date(2026, 12, 2), entries) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ENTRY.replace("  owner: mia@example.com\n", ""), "entry 1: owner: Field required"),
        (ENTRY.replace("until", "untill"), "entry 1: untill: Extra inputs are not permitted"),
        (ENTRY.replace("2026-12-01", "soon"), "entry 1: until: Input should be a valid date"),
        (ENTRY.replace("check: answer_correct", "trial: x"), "entry 1: check: is missing, and so is rule"),
        (ENTRY.replace("check: answer_correct", "rule: http.999"), "there is no rule http.999"),
        (ENTRY.replace("HTTP 503", "'('"), "evidence: has to be a regular expression"),
        (ENTRY.replace("test_1p1d_erdma", "test_1p1d_erdmo"), "test_case: no test case is called test_1p1d_erdmo"),
        (ENTRY.replace("https://", ""), "issue: String should match"),
        (ENTRY + "  owner: two\n", "stands twice"),
        ("it: is\n", "has to be a list of entries"),
        ("- [\n", "cannot be read"),
    ],
)
def test_a_mistake_is_told_with_its_place(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ledger(tmp_path, content)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
