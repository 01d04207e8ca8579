"""A test without its markers stops pytest before any test runs."""

from __future__ import annotations

import pytest

from pyharness.stages import STAGES, with_later
from tests.rules.markers import CATEGORIES
from tests.unit import rules_project
from tests.unit.rules_project import MARKS as ALL
from tests.unit.rules_project import a_test as _test

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a project that has this project's rule of markers."""
    return rules_project.make(pytester, monkeypatch, "markers")


def test_a_test_with_all_four_runs(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n" + _test("test_it", ALL))
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)


def test_each_category_is_needed(project: pytest.Pytester) -> None:
    tests = [_test(f"test_no_{gone}", tuple(marker for marker in ALL if marker != gone)) for gone in ALL]
    project.makepyfile(test_x="import pytest\n" + "".join(tests))
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    begin = "test_x.py::test_no_"
    result.stdout.fnmatch_lines(
        [
            f"{begin}pre_merge: no marker of category lifecycle; add one of pre_merge/post_merge/nightly/*",
            f"{begin}unit: no marker of category type; add one of unit/integration/e2e/benchmark/stress",
            f"{begin}gpu_0: no marker of category hardware; add one of gpu_0/gpu_1/gpu_2/gpu_4/gpu_8",
            f"{begin}harness: no marker of category component; add one of harness/ansible/simulator/*",
        ]
    )


def test_no_test_runs_and_each_wrong_one_has_a_line(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a="import pytest\n" + _test("test_right", ALL),
        test_b="import pytest\n" + _test("test_bare", ()) + _test("test_half", ALL[:2]) + _test("test_right", ALL),
    )
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "test_b.py::test_bare: no marker of category lifecycle, type, hardware, component; add *",
            "test_b.py::test_half: no marker of category hardware, component; add *",
        ]
    )
    result.stdout.no_fnmatch_line("*test_right: no marker*")


def test_markers_of_module_and_class_count(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        pytestmark = [pytest.mark.pre_merge, pytest.mark.unit]

        @pytest.mark.gpu_0
        class TestIt:
            @pytest.mark.harness
            def test_whole(self): pass
        """
    )
    assert project.runpytest_inprocess().ret == pytest.ExitCode.OK


def test_a_test_that_is_deselected_needs_them_too(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n" + _test("test_right", ALL) + _test("test_bare", ()))
    assert project.runpytest_inprocess("-m", "unit").ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("nightly", "pre_merge and nightly are both of category lifecycle; keep pre_merge, the earliest stage"),
        ("e2e", "unit and e2e are both of category type; keep one"),
        ("gpu_2", "gpu_0 and gpu_2 are both of category hardware; keep one"),
    ],
)
def test_two_of_one_category_say_two_things(project: pytest.Pytester, marker: str, told: str) -> None:
    project.makepyfile(test_x="import pytest\n" + _test("test_it", (*ALL, marker)))
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"test_x.py::test_it: {told}"])


def test_it_may_be_about_two_components(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n" + _test("test_it", (*ALL, "router")))
    assert project.runpytest_inprocess().ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        *((stage, STAGES[: number + 1]) for number, stage in enumerate(STAGES)),
        # As Dynamo's guide has it for a nightly pipeline.
        ("unit and (pre_merge or post_merge or nightly)", STAGES[:3]),
        ("nightly and not post_merge", ("nightly",)),
        ("not nightly", ("weekly", "release")),
    ],
)
def test_a_stage_takes_what_is_marked_for_earlier_ones(
    project: pytest.Pytester, asked: str, taken: tuple[str, ...]
) -> None:
    project.makepyfile("import pytest\n" + "".join(_test(f"test_{stage}", (stage, *ALL[1:])) for stage in STAGES))
    result = project.runpytest_inprocess("-v", "-m", asked)
    assert [stage for stage in STAGES if f"::test_{stage} PASSED" in result.stdout.str()] == list(taken)


def test_what_has_no_stage_runs_in_none() -> None:
    assert with_later(["e2e"]) == {"e2e"}


def test_the_rule_knows_the_markers_that_pyproject_declares() -> None:
    known = [name for names in CATEGORIES.values() for name in names]
    assert sorted(known) == sorted(rules_project.declared_markers())
