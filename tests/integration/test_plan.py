"""The plan for real hosts, against one that people have read, made without touching any host."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pyharness import case as cases
from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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


class Planned(NamedTuple):
    """A plan for the real hosts, and how ssh was called for it: not at all."""

    done: subprocess.CompletedProcess[str]
    called: str


def plan_for_a10(name: str, folder: Path) -> Planned:
    """Make a plan where ssh only notes that it was called."""
    called = folder / "called"
    called.touch()
    for program in (folder / "bin" / known for known in ("ssh", "scp", "sftp")):
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {program.name} "$@" >> {called}\nexit 255\n')
        program.chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = plan(name, "-i", "inventories/a10", **environment, USE_MODELSCOPE="", USE_HUGGINGFACE_MIRROR="")
    return Planned(done, called.read_text())


@pytest.fixture(scope="module")
def planned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Planned]]:
    """Return a function that gives a case's plan. All that the session asks for are made side by side: each is slow."""
    names = [] if hasattr(request.config, "workerinput") else _asked_for(request.session.items)
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    plans: dict[str, Future[Planned]] = {}

    def get(name: str) -> Planned:
        if name not in plans:
            plans[name] = pool.submit(plan_for_a10, name, tmp_path_factory.mktemp(name))
        return plans[name].result()

    plans.update({name: pool.submit(plan_for_a10, name, tmp_path_factory.mktemp(name)) for name in names})
    yield get
    pool.shutdown(cancel_futures=True)


def _asked_for(items: Iterable[pytest.Item]) -> list[str]:
    """Return the cases whose plans the session's tests compare."""
    return [
        str(item.callspec.params["name"])
        for item in items
        if isinstance(item, pytest.Function) and "planned" in item.fixturenames
    ]


@pytest.mark.parametrize("name", cases.names())
def test_the_plan_for_a10_is_the_reviewed_one_and_touches_no_host(name: str, planned: Callable[[str], Planned]) -> None:
    """After a change that is meant: write the plan over the file, and review the difference."""
    done, called = planned(name)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (GOLDEN / f"plan_{name}_a10.txt").read_text(encoding="utf-8")
    assert called == ""


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
