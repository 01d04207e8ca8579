"""Several test cases one after the other: what one leaves behind for the others, and the summary of all."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from pyharness import lifecycle, suite, summaries
from pyharness.errors import UsageError
from pyharness.options import Options
from tests.unit.builders import make_check, make_failure, make_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

REFUSED = {"kind": "unsupported", "reason": "no kernel for a CPU", "check": "services_ready", "evidence": "needs CUDA"}


class Cases:
    """Stands in for runs: each test case ends as a test says, well where it says nothing.

    Attributes:
        ran: test cases that were really run.
        resumed: of each whether it was to go on with an earlier run.
        refused: those that were not, with the reason.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "hosts.yml").touch()
        self.ends: dict[str, Callable[[], Report]] = {}
        self.nodes: dict[str, list[str]] = {}
        self.ran: list[str] = []
        self.resumed: list[bool] = []
        self.refused: dict[str, str] = {}

    def run_case(self, options: Options) -> Report:
        self.ran.append(options.test_case)
        self.resumed.append(options.resume)
        report = self.ends.get(options.test_case, make_report)()
        report.test_case = options.test_case
        report.timing.total = 1.5
        report.judge()
        return report

    def refuse_case(self, options: Options, failure: Any) -> Report:
        self.refused[options.test_case] = failure.evidence
        report = make_report(test_case=options.test_case, failures=[failure.model_dump(by_alias=True)])
        report.judge()
        return report

    def names(self, groups: list[str]) -> list[str]:
        return [node for group in groups for node in self.nodes[group]]

    def run(self, *names: str) -> int:
        return suite.run(
            names, Options(test_case=names[0], inventory=self.folder, results=self.folder), lambda _r: None
        )

    def written(self) -> Any:
        return json.loads((self.folder / "summary.json").read_text())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cases:
    one = Cases(tmp_path)
    whole = cases.load("test_1p1d_erdma")
    groups = {"test_a": ["first"], "test_b": ["first", "second"], "test_c": ["second"]}
    one.nodes = {"first": ["n1"], "second": ["n2"]}
    monkeypatch.setattr(cases, "load", lambda name: whole.model_copy(update={"nodes": groups[name]}))
    monkeypatch.setattr(lifecycle, "run_case", one.run_case)
    monkeypatch.setattr(lifecycle, "refuse_case", one.refuse_case)
    monkeypatch.setattr(suite, "Nodes", lambda _inventory: one)
    return one


def unfit(node: str) -> Report:
    left = make_failure(
        **{"class": "infrastructure", "check": "nodes_clean", "trial": None, "evidence": "2 left", "unfit_node": node}
    )
    return make_report(failures=[left])


def refused() -> Report:
    failure = make_failure(**{"class": "unsupported", "check": "services_ready", "evidence": "needs CUDA"})
    return make_report(models=[{"name": "org/model", "expected": REFUSED}], failures=[failure])


def test_all_that_pass_are_a_pass(world: Cases, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("test_a", "test_b") == 0
    assert world.ran == ["test_a", "test_b"]
    told = capsys.readouterr().out
    assert "PASS        test_a     1.5 s  1 of 1 models passed" in told
    assert "2 test cases in 3.0 s: 2 pass; " in told


@pytest.mark.parametrize(("class_", "code"), [("product", 1), ("infrastructure", 2)])
def test_the_worst_verdict_is_the_exit_code_and_the_others_still_run(world: Cases, class_: str, code: int) -> None:
    world.ends["test_a"] = lambda: make_report(failures=[make_failure(**{"class": class_})])
    assert world.run("test_a", "test_b", "test_c") == code
    assert world.ran == ["test_a", "test_b", "test_c"]


def test_an_unfit_node_stops_what_needs_it_and_only_that(world: Cases) -> None:
    world.ends["test_a"] = lambda: unfit("n1")
    assert world.run("test_a", "test_b", "test_c") == 2
    assert world.ran == ["test_a", "test_c"]
    assert world.refused == {"test_b": "not run: n1 is unfit since test_a: 2 left"}


def test_a_suite_goes_on_with_what_it_has_begun_and_begins_the_rest(world: Cases) -> None:
    (world.folder / "test_a").mkdir()
    (world.folder / "test_a" / "journal.jsonl").touch()
    options = Options(test_case="test_a", inventory=world.folder, results=world.folder, resume=True)
    suite.run(["test_a", "test_b"], options, lambda _report: None)
    assert (world.ran, world.resumed) == (["test_a", "test_b"], [True, False])


def test_after_an_interrupt_nothing_more_is_begun(world: Cases) -> None:
    ended = make_failure(**{"class": "test", "check": "interrupted", "spoils_judgement": True})
    world.ends["test_a"] = lambda: make_report(failures=[ended])
    assert world.run("test_a", "test_c") == 2
    assert world.ran == ["test_a"]
    assert world.refused == {"test_c": "not run: the suite was ended during test_a"}


def test_a_usage_error_of_one_does_not_keep_the_others_from_running(world: Cases) -> None:
    def cannot() -> Report:
        raise UsageError("no recorded answer")

    world.ends["test_a"] = cannot
    assert world.run("test_a", "test_c") == 2
    assert world.refused == {"test_a": "no recorded answer"}
    assert world.ran == ["test_a", "test_c"]


def test_what_no_platform_here_can_run_is_shown_and_fails_nobody(
    world: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    world.ends["test_a"] = refused
    assert world.run("test_a", "test_c") == 0
    assert "UNSUPPORTED test_a" in capsys.readouterr().out
    document = world.written()
    assert document["counts"] == {"pass": 1, "fail": 0, "error": 0, "unsupported": 1}
    assert (document["test_cases"][0]["verdict"], document["test_cases"][0]["outcome"]) == ("error", "unsupported")


def test_where_nothing_at_all_could_run_nothing_was_tested(world: Cases) -> None:
    world.ends["test_a"] = world.ends["test_c"] = refused
    assert world.run("test_a", "test_c") == 2
    assert world.written()["counts"]["unsupported"] == 2


def test_a_refusal_beside_another_failure_is_no_mere_refusal() -> None:
    report = refused()
    report.failures.append(make_failure(**{"class": "infrastructure", "check": "nodes_clean", "trial": None}))
    assert not summaries.only_unsupported(report)


def test_the_junit_of_all_holds_each_and_counts_them(world: Cases) -> None:
    world.ends["test_a"] = lambda: make_report(
        models=[{"name": "org/model", "checks": [make_check(status="fail").model_dump()]}], failures=[make_failure()]
    )
    world.ends["test_b"] = refused
    world.run("test_a", "test_b", "test_c")
    root = ET.parse(world.folder / "junit.xml").getroot()  # noqa: S314 (our own file)
    assert [entry.get("name") for entry in root] == ["test_a", "test_b", "test_c"]
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
    }
    assert [entry.get("skipped") for entry in root] == ["0", "1", "0"]


def test_the_page_shows_every_case_and_takes_nothing_for_markup(world: Cases) -> None:
    evidence = "<script>alert(1)</script>"
    world.ends["test_a"] = lambda: make_report(failures=[make_failure(evidence=evidence)])
    world.ends["test_b"] = refused
    world.run("test_a", "test_b", "test_c")
    page = (world.folder / "summary.html").read_text()
    for name in ("test_a", "test_b", "test_c"):
        assert f'<a href="{name}/report.json">{name}</a>' in page
    assert evidence not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "no kernel for a CPU" in page
    assert "http" not in page.replace("http-equiv", "")  # it opens offline


def test_a_summary_of_a_suite_that_is_not_over_says_what_is_to_come(world: Cases) -> None:
    seen: list[Any] = []

    def look() -> Report:
        seen.append(world.written()["to_come"])
        return make_report()

    world.ends["test_c"] = look
    world.run("test_a", "test_c")
    assert seen == [["test_c"]]
    assert world.written()["to_come"] == []
