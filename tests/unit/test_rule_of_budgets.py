"""Times are told per suite, with what is over its budget and the slowest ten; they never fail a session."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit import rules_project
from tests.unit.rules_project import a_test

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# What the tests of this project of pytester's take by the clock of the rule: the times of its reports are made up.
CLOCK = """
import pytest

@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    report.duration = {"test_slow": 16.0, "test_long": 299.0}.get(item.name, 0.5) if report.when == "call" else 0.0
    return report
"""
INTEGRATION = ("pre_merge", "integration", "gpu_0", "harness")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    project = rules_project.make(pytester, monkeypatch, "budgets")
    with (project.path / "conftest.py").open("a") as stream:
        stream.write(CLOCK)
    project.makepyfile(
        test_one="import pytest\n" + a_test("test_slow") + a_test("test_quick", body="assert False"),
        test_two="import pytest\n" + a_test("test_long", INTEGRATION) + a_test("test_quick", INTEGRATION),
        test_three="import pytest\n" + "".join(a_test(f"test_{number}") for number in range(20)),
    )
    return project


def written(project: pytest.Pytester) -> dict[str, Any]:
    (file,) = (project.path / "run" / "tests").glob("times*.json")
    return dict(json.loads(file.read_text()))


def test_a_suite_over_its_budget_is_told_and_fails_nothing(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--deselect", "test_one.py::test_quick")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "unit: 26.0 s in 2 suites; the longest test_one.py, 16.0 s of 15 s",
            "integration: 299.5 s in 1 suites; the longest test_two.py, 299.5 s of 300 s",
            "OVER BUDGET test_one.py: 16.0 s, and a suite of type unit has 15 s",
            "slowest 10 of 23 tests:",
            "* 299.00 s  test_two.py::test_long",
            "*  16.00 s  test_one.py::test_slow",
            "all times: run/tests/times.json",
        ]
    )
    result.stdout.no_fnmatch_line("*OVER BUDGET test_t*")
    result.stdout.no_fnmatch_line("*::warning*")


def test_a_program_reads_the_same(project: pytest.Pytester) -> None:
    project.runpytest_inprocess()
    told = written(project)
    assert [(suite["suite"], suite["type"], suite["tests"], suite["over"]) for suite in told["suites"]] == [
        ("test_two.py", "integration", 2, False),
        ("test_one.py", "unit", 2, True),
        ("test_three.py", "unit", 20, False),
    ]
    assert (len(told["slowest"]), told["folders"]) == (10, {".": 326.0})


def test_workers_of_xdist_are_counted_together(project: pytest.Pytester) -> None:
    alone = project.runpytest_inprocess()
    before = written(project)
    result = project.runpytest_subprocess("-p", "xdist.plugin", "-n", "2")
    assert result.parseoutcomes() == alone.parseoutcomes()
    assert {**written(project), "seconds": 0} == {**before, "seconds": 0}


def test_on_github_it_is_a_warning(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = project.runpytest_inprocess("test_one.py")
    result.stdout.fnmatch_lines(
        ["::warning title=Over its budget::test_one.py: 16.5 s, and a suite of type unit has 15 s"]
    )


def test_of_what_runs_later_than_before_a_merge_no_end_to_end_budget_is_told(project: pytest.Pytester) -> None:
    clock = (project.path / "conftest.py").read_text().replace("299.0", "901.0")
    (project.path / "conftest.py").write_text(clock)
    for stage in ("nightly", "pre_merge"):
        project.makepyfile(test_two="import pytest\n" + a_test("test_long", (stage, "e2e", "gpu_0", "harness")))
        result = project.runpytest_inprocess("test_two.py")
        assert ("OVER BUDGET test_two.py: 901.0 s" in result.stdout.str()) == (stage == "pre_merge")
