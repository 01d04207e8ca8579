"""Each test leaves a log file of its own: what failed, and what is more than a unit test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import redaction
from tests.rules import logs
from tests.unit import rules_project
from tests.unit.rules_project import a_test

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

WHOLE = ("pre_merge", "e2e", "gpu_0", "harness")
TELLS = 'print("printed"); logging.getLogger("its").info("logged"); assert {}'


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    project = rules_project.make(pytester, monkeypatch, "budgets", "logs")
    tests = a_test("test_good", body=TELLS.format("True")) + a_test("test_bad", body=TELLS.format("False"))
    project.makepyfile(
        test_it="import logging\nimport pytest\n" + tests + a_test("test_whole", WHOLE, TELLS.format("True"))
    )
    return project


def left(project: pytest.Pytester) -> dict[str, str]:
    folder = project.path / "run" / "tests"
    return {str(file.parent.relative_to(folder)): file.read_text() for file in folder.rglob(logs.NAME)}


@pytest.mark.parametrize("workers", [(), ("-p", "xdist.plugin", "-n", "2")], ids=["alone", "xdist"])
def test_what_failed_and_what_is_more_than_a_unit_test(project: pytest.Pytester, workers: tuple[str, ...]) -> None:
    project.runpytest_subprocess("-o", "log_level=INFO", *workers)
    found = left(project)
    assert sorted(found) == ["test_it.py/test_bad", "test_it.py/test_whole"]
    for text in found.values():
        assert "printed" in text
        assert "its:test_it.py" in text
        assert "logged" in text
    assert "call: failed" in found["test_it.py/test_bad"]
    assert "assert False" in found["test_it.py/test_bad"]
    assert "call: passed" in found["test_it.py/test_whole"]


def test_a_unit_test_that_passes_again_takes_its_log_away(project: pytest.Pytester) -> None:
    project.runpytest_inprocess()
    file = project.path / "test_it.py"
    file.write_text(file.read_text().replace("assert False", "assert True"))
    project.runpytest_inprocess()
    assert sorted(left(project)) == ["test_it.py/test_whole"]


def test_it_has_what_fixtures_did(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="import pytest\n@pytest.fixture\ndef it():\n    print('began')\n    yield\n    print('ended')\n\n"
        + a_test("test_it", WHOLE).replace("test_it()", "test_it(it)")
    )
    project.runpytest_inprocess()
    (text,) = left(project).values()
    assert text.index("--- Captured stdout setup ---") < text.index("--- Captured stdout teardown ---")
    assert "began" in text
    assert "ended" in text


def test_secrets_are_not_in_it(project: pytest.Pytester) -> None:
    redaction.learn("HF_TOKEN", "hf_0123456789canary")
    project.makepyfile(test_it="import pytest\n" + a_test("test_it", WHOLE, 'print("hf_0123456789" "canary")'))
    project.runpytest_inprocess()
    (text,) = left(project).values()
    assert "hf_0123456789canary" not in text
    assert "<redacted" in text


def test_of_a_long_one_the_middle_is_left_out(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="import pytest\n" + a_test("test_it", WHOLE, 'print("first", *range(100000), "last")'))
    project.runpytest_inprocess()
    (text,) = left(project).values()
    assert len(text) < logs.MAX_CHARACTERS + 100
    assert "characters left out" in text
    assert "first 0 1" in text
    assert "99999 last" in text


@pytest.mark.parametrize(
    ("nodeid", "path"),
    [
        ("tests/unit/test_it.py::test_it", "tests/unit/test_it.py/test_it"),
        ("test_it.py::TestIt::test_it[a-1.5]", "test_it.py/TestIt/test_it[a-1.5]"),
        ("test_it.py::test_it[../../etc]", "test_it.py/test_it[../etc]-"),
        ("test_it.py::test_it[a b]", "test_it.py/test_it[a_b]-"),
        ("test_it.py::test_it[" + "x" * 300 + "]", "test_it.py/test_it[" + "x" * 112 + "-"),
    ],
)
def test_a_node_id_is_a_path_below_the_folder(nodeid: str, path: str, tmp_path: Path) -> None:
    found = logs.path_of(nodeid)
    if "etc" in nodeid:
        assert (tmp_path / found).resolve().is_relative_to(tmp_path)
        return
    assert found.startswith(path)
    assert max(len(part) for part in found.split("/")) <= 129


def test_names_that_differ_only_in_what_no_path_takes_have_folders_of_their_own() -> None:
    assert logs.path_of("test_it.py::test_it[a b]") != logs.path_of("test_it.py::test_it[a?b]")
