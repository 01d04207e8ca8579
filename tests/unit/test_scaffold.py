"""The files of a new test case: they pass lint, load, and nothing is overwritten."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pyharness import case as cases
from pyharness import cli, paths, scaffold
from pyharness.errors import UsageError

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

NAME = "test_twice"
LIKE = "test_1p1d_erdma"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project of one test case."""
    for folder in ("playbooks/vars", "pyharness/verification", "tone_tests/scripts"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (f"playbooks/{LIKE}.yml", f"playbooks/vars/{LIKE}.yml", f"tone_tests/scripts/{LIKE}.sh"):
        shutil.copy(paths.PROJECT / name, tmp_path / name)
    (tmp_path / "pyharness" / "verification" / "__init__.py").touch()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setattr(paths, "PLAYBOOKS", tmp_path / "playbooks")
    monkeypatch.setattr(paths, "DECLARATIONS", tmp_path / "playbooks" / "vars")
    monkeypatch.setattr(paths, "use_project_ansible", lambda: None)
    return tmp_path


def test_what_is_written_loads_and_carries_the_new_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", NAME, "--title", 'Asked twice: "how" and why']) == 0
    case = cases.load(NAME)
    assert (case.test_case, case.title) == (NAME, 'Asked twice: "how" and why')
    plays = yaml.safe_load((project / "playbooks" / f"{NAME}.yml").read_text())
    assert plays[0]["vars"] == {"test_case": NAME}
    script = project / "tone_tests" / "scripts" / f"{NAME}.sh"
    assert f'test_case_name="{NAME}"' in script.read_text()
    assert script.stat().st_mode & 0o111
    assert capsys.readouterr().out.count("wrote ") == 4
    assert LIKE not in (project / "playbooks" / "vars" / f"{NAME}.yml").read_text()


def test_what_is_written_passes_lint(project: Path) -> None:
    assert cli.main(["new", NAME]) == 0
    program = Path(sys.executable).parent
    python = project / "pyharness" / "verification" / f"{NAME}.py"
    commands: list[list[str | Path]] = [
        [program / "ruff", "check", "--config", Path(__file__).parents[2] / "pyproject.toml", python],
        [program / "ruff", "format", "--check", "--config", Path(__file__).parents[2] / "pyproject.toml", python],
        [program / "yamllint", "--strict", "-c", Path(__file__).parents[2] / ".yamllint", project / "playbooks"],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["twice", "test_Twice", "test_", "test_a-b", "list", "test_a/b", "../test_a"])
def test_a_name_that_will_not_do_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"begins with test_, bench_, chaos_"):
        scaffold.files(name, LIKE, "x")


def test_a_title_of_two_lines_is_refused() -> None:
    with pytest.raises(UsageError, match="--title: has to be one line"):
        scaffold.files(NAME, LIKE, "a\nb")


def test_what_is_there_is_not_overwritten_and_nothing_else_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = project / "pyharness" / "verification" / f"{NAME}.py"
    own.write_text("mine\n")
    assert cli.main(["new", NAME]) == 2
    assert "is there already" in capsys.readouterr().err
    assert own.read_text() == "mine\n"
    assert not (project / "playbooks" / f"{NAME}.yml").exists()


def test_a_disk_that_is_full_leaves_nothing_half_done(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        if path.suffix == ".py":
            raise OSError(28, "No space left on device", str(path))
        return real(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    assert cli.main(["new", NAME]) == 2
    assert not list(project.rglob(f"{NAME}*"))
