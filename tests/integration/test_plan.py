"""The plan for real hosts, against one that people have read, made without touching any host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyharness import case as cases
from pyharness import paths

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

GOLDEN = Path(__file__).parent.parent / "golden"


def plan(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyharness", "plan", *arguments]
    return subprocess.run(
        command,
        cwd=paths.PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def ssh_that_tells(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """Give an environment in which ssh only notes that it was called."""
    called = tmp_path / "called"
    for name in ("ssh", "scp", "sftp"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {called}\nexit 255\n')
        program.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}, called


@pytest.mark.parametrize("name", cases.names())
def test_the_plan_for_a10_is_the_reviewed_one_and_touches_no_host(
    name: str, ssh_that_tells: tuple[dict[str, str], Path]
) -> None:
    """After a change that is meant: write the plan over the file, and review the difference."""
    environment, called = ssh_that_tells
    done = plan(name, "-i", "inventories/a10", **environment, USE_MODELSCOPE="", USE_HUGGINGFACE_MIRROR="")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (GOLDEN / f"plan_{name}_a10.txt").read_text(encoding="utf-8")
    assert not called.exists(), called.read_text()


def test_a_plan_can_be_read_by_a_program_and_narrowed_to_a_model() -> None:
    done = plan("test_1p1d_erdma", "-i", "inventories/local", "--model", "Qwen/Qwen3-8B", "--json")
    assert done.returncode == 0, done.stderr
    assert '"runtime": "process"' in done.stdout
    assert "DeepSeek" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["test_1p1d"], "no test case is called test_1p1d"),
        (["test_1p1d_erdma", "-i", "inventories/nowhere"], "there is no such inventory"),
        (["test_1p1d_erdma", "--model", "gpt"], "--model gpt: test_1p1d_erdma declares"),
        (["test_1p1d_erdma", "-e", "nonsense"], "has to be KEY=VALUE"),
        (["test_1p1d_erdma", "-e", "disagg_models={}"], "disagg_models"),
        ([], "TEST_CASE"),
    ],
)
def test_bad_input_gets_one_line(arguments: list[str], told: str) -> None:
    done = plan(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
