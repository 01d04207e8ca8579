"""kill -9 of the harness at any moment of a run: what it leaves is found and removed, and nothing of anybody else.

The moments are drawn over the length of a whole run, one from each of as many equal parts, always the same ones. A
handful of them before a merge; fifty every night.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from tests.sabotage.traces import Bystanders, Ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

_SEED = 5
_FEW, _MANY = 4, 50
_RUN = ("test_1p1d_erdma", "--model", "Qwen/Qwen3-8B", "-q")
_END_SECONDS = 120


def _moments(count: int) -> list[float]:
    """Return moments as parts of a run's length."""
    drawn = random.Random(_SEED)  # noqa: S311 (no secret)
    return [(number + drawn.random()) / count for number in range(count)]


def _points(few: int, many: int) -> list[object]:
    chosen = {f"{moment:.3f}": pytest.mark.pre_merge for moment in _moments(few)}
    chosen |= {f"{moment:.3f}": pytest.mark.nightly for moment in _moments(many)}
    return [pytest.param(float(moment), marks=mark, id=moment) for moment, mark in chosen.items()]


@pytest.fixture
def ground(site: Site) -> Iterator[Ground]:
    """Return a site of whose folders all is known."""
    ground = Ground.of(site)
    yield ground
    shutil.rmtree(ground.state)


def _command(*arguments: str, ground: Ground) -> list[str]:
    start = [sys.executable, "-m", "pyharness", *arguments]
    return [*start, "-i", str(ground.site.inventory), "--results", str(ground.site.results)]


def _program(*arguments: str, ground: Ground) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*arguments, ground=ground),
        cwd=paths.PROJECT,
        env=ground.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_END_SECONDS,
    )


@pytest.fixture(scope="module")
def lengths() -> dict[str, float]:
    return {}


def _kill_after(seconds: float, ground: Ground) -> bool:
    """Start a run, and kill the harness, and it alone, after some seconds. Returns whether it was still at work."""
    harness = subprocess.Popen(
        _command(*_RUN, ground=ground),
        cwd=paths.PROJECT,
        env=ground.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        harness.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(harness.pid, signal.SIGKILL)
    return harness.wait() == -signal.SIGKILL


def _length(ground: Ground, known: dict[str, float], bystanders: Bystanders) -> float:
    """Return the seconds that a whole run takes here, found out once."""
    if "seconds" not in known:
        started = time.monotonic()
        done = _program(*_RUN, ground=ground)
        assert done.returncode == 0, done.stdout + done.stderr
        known["seconds"] = time.monotonic() - started
        assert bystanders.without(ground.left()) == {}, "a run that passes leaves nothing"
    return known["seconds"]


@pytest.fixture
def bystanders(ground: Ground) -> Iterator[Bystanders]:
    """Return what is not the run's."""
    bystanders = Bystanders(ground)
    yield bystanders
    bystanders.remove()


@pytest.mark.parametrize("moment", _points(_FEW, _MANY))
def test_teardown_leaves_nothing_of_a_killed_run_and_all_of_anybody_else(
    moment: float, ground: Ground, lengths: dict[str, float], bystanders: Bystanders
) -> None:
    killed = _kill_after(moment * _length(ground, lengths, bystanders), ground)

    done = _program("teardown", ground=ground)

    assert done.returncode == 0, done.stdout + done.stderr
    assert bystanders.without(ground.left()) == {}, f"killed: {killed}\n{done.stdout}{done.stderr}"
    assert bystanders.harmed() == []


@pytest.mark.parametrize("moment", _points(2, 8))
def test_the_next_run_cleans_up_after_a_killed_one_and_passes(
    moment: float, ground: Ground, lengths: dict[str, float], bystanders: Bystanders
) -> None:
    _kill_after(moment * _length(ground, lengths, bystanders), ground)

    done = _program(*_RUN, ground=ground)

    assert done.returncode == 0, done.stdout + done.stderr
    assert bystanders.without(ground.left()) == {}
    assert bystanders.harmed() == []
