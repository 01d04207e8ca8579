"""Tests of what is not installed are not collected, which is told; or, where it has to be there, are an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rules import requires
from tests.unit import rules_project
from tests.unit.rules_project import a_test

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

NEEDY = 'import pytest\nimport of_the_backend_that_is_not_there\n\nrequires = "chromium"\n\n'


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a project with three modules of which one needs a browser, where no program is on PATH."""
    monkeypatch.setenv("PATH", str(pytester.path / "bin"))
    monkeypatch.setattr(requires, "_SYSTEM", "")
    requires._missing.cache_clear()
    project = rules_project.make(pytester, monkeypatch, "requires")
    project.makepyfile(
        test_plain="import pytest\n" + a_test("test_it"), test_pages=NEEDY + a_test("test_a") + a_test("test_b")
    )
    return project


@pytest.fixture(autouse=True)
def _look_again() -> None:
    requires.declared.cache_clear()


def install(project: pytest.Pytester, name: str) -> None:
    program = project.path / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    requires._missing.cache_clear()


def test_they_are_not_even_imported_and_one_line_says_so(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["not collected: chromium (1 file; no chromium or * or google-chrome here (Debian: apt-get install chromium))"]
    )


def test_named_alone_they_are_not_collected_either(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("test_pages.py")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["not collected: chromium (1 file; *"])


def test_where_it_is_there_they_run(project: pytest.Pytester) -> None:
    install(project, "google-chrome")
    project.makepyfile(test_pages=NEEDY.replace("import of_the_backend_that_is_not_there\n", "") + a_test("test_a"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("not collected*")


def test_a_folder_says_it_for_all_that_is_below(project: pytest.Pytester) -> None:
    folder = project.mkdir("pages")
    (folder / "conftest.py").write_text('requires = ["nats", "etcd"]\n')
    (folder / "test_below.py").write_text("import pytest\n" + a_test("test_it"))
    install(project, "nats-server")
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["not collected: etcd (1 file; no etcd here (Debian: apt-get install etcd-server))"])
    result.stdout.no_fnmatch_line("not collected: nats*")


def test_under_xdist_too(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-p", "xdist.plugin", "-n", "2")
    assert result.parseoutcomes() == {"passed": 1}


@pytest.mark.parametrize(
    ("required", "told"),
    [
        ("etcd, chromium", "DISAGG_E2E_REQUIRE: chromium has to be there: no chromium or *"),
        ("netscape", "DISAGG_E2E_REQUIRE: netscape is not known; there are *chromium, docker, dynamo, *"),
    ],
)
def test_what_has_to_be_there_and_is_not_is_an_error(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, told: str
) -> None:
    monkeypatch.setenv("DISAGG_E2E_REQUIRE", required)
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{told}"])


def test_an_environment_that_has_to_be_there_is_built_by_its_tests(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISAGG_E2E_CACHE", str(tmp_path / "cache"))
    project.makepyfile(test_pages='import pytest\nrequires = "dynamo"\n' + a_test("test_it"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["not collected: dynamo (1 file; environment dynamo-cpu is not built: *"])
    monkeypatch.setenv("DISAGG_E2E_REQUIRE", "dynamo")
    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_an_environment_that_is_built_is_there(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISAGG_E2E_CACHE", str(tmp_path))
    for name in ("disagg-e2e.json", "bin"):
        (tmp_path / "envs" / "vllm-cpu-0123" / name).mkdir(parents=True)
    project.makepyfile(test_pages='import pytest\nrequires = "vllm"\n' + a_test("test_it"))
    project.runpytest_inprocess().assert_outcomes(passed=2)


@pytest.mark.parametrize("value", ['"netscape"', "3", '["vllm", 3]', "name"])
def test_what_is_not_known_is_an_error(project: pytest.Pytester, value: str) -> None:
    project.makepyfile(test_pages=f"import pytest\nname = 1\nrequires = {value}\n" + a_test("test_it"))
    result = project.runpytest_inprocess()
    assert result.ret != pytest.ExitCode.OK
    assert "test_pages.py: requires: " in result.stdout.str() + result.stderr.str()


def test_a_browser_that_is_named_and_not_there_is_an_error(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISAGG_E2E_BROWSER", "netscape")
    result = project.runpytest_inprocess()
    assert result.ret != pytest.ExitCode.OK
    assert "DISAGG_E2E_BROWSER=netscape: there is no such program" in result.stdout.str() + result.stderr.str()
