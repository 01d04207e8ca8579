"""How long test cases took here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import durations, paths
from tests.unit.builders import make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def took(seconds: float, inventory: Path, *, passed: bool = True) -> None:
    report = make_report(failures=[] if passed else [make_failure()])
    report.timing.total = seconds
    report.judge()
    durations.remember(report, inventory)


def test_the_median_of_the_last_passing_runs_on_an_inventory(tmp_path: Path) -> None:
    for seconds in (90.0, 80.0, 30.0, 31.0, 33.0, 35.0):
        took(seconds, tmp_path / "here")
    took(5.0, tmp_path / "here", passed=False)
    took(7.0, tmp_path / "elsewhere")
    assert durations.median("test_it", tmp_path / "here") == (33.0, 5)
    assert durations.median("test_it", tmp_path / "elsewhere") == (7.0, 1)


def test_a_case_that_never_ran_has_none(tmp_path: Path) -> None:
    assert durations.median("test_it", tmp_path) is None


def test_a_file_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    took(1.0, tmp_path)
    (paths.cache() / "durations.json").write_text("[")
    took(2.0, tmp_path)
    assert durations.median("test_it", tmp_path) == (2.0, 1)
