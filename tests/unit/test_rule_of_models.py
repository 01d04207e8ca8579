"""What tests need of models is there before the first of them, had once for all workers; afterwards all are offline."""

from __future__ import annotations

import pytest

from tests.unit import rules_project
from tests.unit.rules_project import a_test

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# In place of the roles: keeps what it was asked for.
PROVISION = """
import pathlib
from tests.rules import offline

def provision(inventory, models):
    if "org/none" in models:
        raise RuntimeError("needs_model: org/none cannot be had")
    with (pathlib.Path(__file__).parent / "asked").open("a") as stream:
        stream.write(f"{inventory} {' '.join(models)}\\n")

offline.provision = provision
"""
HERE = 'import os, pathlib; assert os.environ["HF_HUB_OFFLINE"] == "1"; assert pathlib.Path("asked").exists()'


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    project = rules_project.make(pytester, monkeypatch, "offline")
    with (project.path / "conftest.py").open("a") as stream:
        stream.write(PROVISION)
    return project


def needy(name: str, *models: str, inventory: str = "simulator") -> str:
    marker = f"@pytest.mark.needs_model(*{models!r}, inventory={inventory!r})\n"
    return marker + a_test(name, body=HERE)


def asked(project: pytest.Pytester) -> list[str]:
    return (project.path / "asked").read_text().splitlines()


def test_all_that_is_needed_is_had_at_once_before_the_first_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        "import pytest\n"
        + a_test("test_first", body=HERE)
        + needy("test_one", "org/b", "org/a")
        + needy("test_two", "org/a")
        + needy("test_three", "org/c", inventory="local")
    )
    project.runpytest_subprocess().assert_outcomes(passed=4)
    assert asked(project) == ["local org/c", "simulator org/a org/b"]


def test_once_for_all_workers(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n" + "".join(needy(f"test_{number}", "org/a") for number in range(4)))
    project.runpytest_subprocess("-p", "xdist.plugin", "-n", "2").assert_outcomes(passed=4)
    assert asked(project) == ["simulator org/a"]


def test_what_is_not_selected_is_not_had(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n" + a_test("test_first") + needy("test_one", "org/a"))
    project.runpytest_subprocess("-k", "first").assert_outcomes(passed=1)
    assert not (project.path / "asked").exists()


def test_what_cannot_be_had_fails_before_the_test_does(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n" + needy("test_one", "org/none"))
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E * RuntimeError: needs_model: org/none cannot be had"])
