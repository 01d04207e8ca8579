"""Random numbers are the same in each test, whatever ran before, and the seed is told and can be set."""

from __future__ import annotations

import pytest

from tests.unit import rules_project

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

DRAWS = """
import random
import pytest

@pytest.mark.parametrize("number", range(3))
def test_it(number):
    print("drew", random.random())
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    project = rules_project.make(pytester, monkeypatch, "seeds")
    project.makepyfile(DRAWS)
    return project


def drawn(project: pytest.Pytester, *arguments: str) -> set[str]:
    lines = project.runpytest_inprocess("-s", *arguments).outlines
    found = [line.partition("drew ")[2] for line in lines if "drew " in line]
    assert len(found) == 3
    return set(found)


def test_each_test_draws_the_same_in_each_session(project: pytest.Pytester) -> None:
    first = drawn(project)
    assert len(first) == 1
    assert drawn(project) == first


def test_another_seed_draws_others(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    first = drawn(project)
    other = drawn(project, "--seed", "7")
    assert other != first
    monkeypatch.setenv("DISAGG_E2E_SEED", "7")
    assert drawn(project) == other


def test_the_top_says_with_which(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "3")
    result = project.runpytest_inprocess("--seed", "7")
    result.stdout.fnmatch_lines(["seed: 7 (--seed N), PYTHONHASHSEED: 3, hypothesis: new examples each time"])


def test_a_seed_that_is_no_number_is_one_line(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISAGG_E2E_SEED", "seven")
    result = project.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*DISAGG_E2E_SEED=seven: has to be a whole number"])


def test_where_ci_runs_hypothesis_draws_the_same_examples(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    project.makepyfile("import hypothesis\ndef test_it(): assert hypothesis.settings().derandomize\n")
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["seed: *, hypothesis: the same examples each time"])
    monkeypatch.delenv("CI")
    project.runpytest_subprocess().assert_outcomes(failed=1)
