"""A test case several times: each run is told, and what passes only sometimes is flaky and never a pass."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import flakes, lifecycle, repeats
from pyharness.options import Options
from pyharness.results_dir import ResultsDir
from tests.unit.builders import make_check, make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.results import Report, Verdict

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"


class Runs:
    """Runs that end as they are told to, with their results where they belong."""

    def __init__(self, folder: Path, *ends: str) -> None:
        self.results, self.ends = folder / "run", list(ends)
        self.resumed: list[bool] = []

    def run_case(self, options: Options) -> Report:
        self.resumed.append(options.resume)
        end = self.ends.pop(0)
        number = len(self.resumed)
        report = make_report(test_case=CASE, run_id=f"20260101-00000{number}-aaaa")
        report.models[0].checks.append(make_check())
        classes = {"fail": "product", "error": "infrastructure", "interrupted": "test"}
        if end != "pass":
            check = "interrupted" if end == "interrupted" else "answer_correct"
            report.failures.append(
                make_failure(**{"class": classes[end], "check": check, "evidence": f"wrong {number}\nmore"})
            )
        report.timing.total = 10.0 * number
        report.judge()
        ResultsDir(options.results, CASE, kept=options.repeat).write(report)
        return report

    def options(self, **changes: Any) -> Options:
        return Options(CASE, results=self.results, repeat=len(self.ends), **changes)

    def written(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.results / CASE / name).read_text()))


def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *ends: str, **changes: Any) -> tuple[Runs, Report, Options]:
    runs = Runs(tmp_path, *ends)
    monkeypatch.setattr(lifecycle, "run_case", runs.run_case)
    options = runs.options(**changes)
    return runs, repeats.run_case(options), options


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "fail"], "flaky"),
        (["error", "pass", "pass"], "flaky"),
        (["fail", "fail"], "fail"),
        (["error", "error"], "error"),
        (["fail", "error"], "fail"),
    ],
)
def test_the_verdict_of_several_runs(verdicts: list[Verdict], together: str) -> None:
    assert repeats.together(verdicts) == together


def test_once_is_a_run_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs, report, options = go(tmp_path, monkeypatch, "pass")
    assert (report.verdict, report.repeats, repeats.exit_code(report, options)) == ("pass", [], 0)


def test_a_pass_after_a_failure_is_flaky_and_a_fail_for_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, report, options = go(tmp_path, monkeypatch, "pass", "fail", "pass")
    assert (report.verdict, repeats.exit_code(report, options)) == ("flaky", 1)
    assert [(entry.verdict, entry.seconds, entry.first_cause) for entry in report.repeats] == [
        ("pass", 10.0, None),
        ("fail", 20.0, "product: answer_correct: wrong 2"),
        ("pass", 30.0, None),
    ]
    told = report.failures[0]
    assert (told.check, told.class_, told.rule) == ("repeats", "product", "repeats.flaky")
    assert told.evidence == ("2 of 3 runs passed; run 20260101-000002-aaaa did not: product: answer_correct: wrong 2")
    assert runs.written("test_results.json")["status"] == "Fail"
    assert runs.written("report.json")["verdict"] == "flaky"
    assert {path.name for path in (runs.results / "previous" / CASE).iterdir()} == {
        "20260101-000001-aaaa",
        "20260101-000002-aaaa",
    }


def test_of_more_runs_than_are_kept_otherwise_all_results_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, report, _options = go(tmp_path, monkeypatch, *["pass"] * 8)
    assert report.verdict == "pass"
    assert len(list((runs.results / "previous" / CASE).iterdir())) == 7


def test_a_last_run_that_failed_keeps_its_own_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs, report, _options = go(tmp_path, monkeypatch, "pass", "error")
    assert report.verdict == "flaky"
    assert [failure.check for failure in report.failures] == ["answer_correct"]


def test_who_stops_a_run_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, report, _options = go(tmp_path, monkeypatch, "pass", "interrupted", "pass")
    assert runs.ends == ["pass"]
    assert len(report.repeats) == 2
    assert report.verdict == "flaky"


def test_only_the_first_goes_on_with_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, _report, _options = go(tmp_path, monkeypatch, "pass", "pass", resume=True)
    assert runs.resumed == [True, False]


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, 1)])
def test_a_known_flake_names_its_owner(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: bool,  # noqa: FBT001 (a table's column)
    code: int,
) -> None:
    entry = flakes.KnownFlake(
        test_case=CASE,
        check="answer_correct",
        evidence="wrong",
        owner="ann",
        reason="race",
        until=dt.date(2030, 1, 1),
    )
    monkeypatch.setattr(flakes, "known", lambda _report, _today: entry)
    _runs, report, options = go(tmp_path, monkeypatch, "fail", "pass", allow_known_flakes=allowed)
    assert report.known_flake is not None
    assert (report.known_flake.owner, report.known_flake.until) == ("ann", "2030-01-01")
    assert (report.verdict, repeats.exit_code(report, options)) == ("flaky", code)


def test_a_flake_of_which_one_failure_is_not_known_is_not_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flakes, "known", lambda report, _today: None if "000002" in report.run_id else object())
    _runs, report, options = go(tmp_path, monkeypatch, "pass", "fail", "fail", allow_known_flakes=True)
    assert (report.known_flake, repeats.exit_code(report, options)) == (None, 1)
