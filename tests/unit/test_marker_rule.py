"""A test without its markers stops pytest before any test runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

PROJECT = Path(__file__).resolve().parents[2]
CONFTEST = PROJECT / "tests" / "conftest.py"
ALL = ("pre_merge", "unit", "gpu_0", "harness")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a project that has this project's conftest.py and markers."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # loading others' plugins takes a second each time
    pytester.makeconftest(CONFTEST.read_text())
    markers = "\n".join(f"    {name}" for name in _declared_markers())
    pytester.makeini(f"[pytest]\naddopts = --strict-markers\nmarkers =\n{markers}\n")
    return pytester


def _declared_markers() -> list[str]:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return [marker.split(":")[0] for marker in settings["markers"]]


def _test(name: str, markers: tuple[str, ...]) -> str:
    return "".join(f"@pytest.mark.{marker}\n" for marker in markers) + f"def {name}(): pass\n\n"


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


def test_the_rule_knows_the_markers_that_pyproject_declares() -> None:
    text: dict[str, dict[str, tuple[str, ...]]] = {}
    exec(compile(CONFTEST.read_text(), str(CONFTEST), "exec"), text)  # noqa: S102 (this project's own file)
    known = [name for names in text["CATEGORIES"].values() for name in names]
    assert sorted(known) == sorted(_declared_markers())
