"""What is remembered of runs whose nodes are not clean."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from pyharness import paths, unfinished
from pyharness.unfinished import Unfinished

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def entry(run: str, inventory: Path, **changes: object) -> Unfinished:
    known = Unfinished(run, str(inventory.resolve()), ["prefill_nodes"], "2026-01-01T00:00:00Z", [])
    return dataclasses.replace(known, **changes)  # type: ignore[arg-type]


def test_a_run_is_remembered_for_its_inventory_until_it_is_forgotten(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    unfinished.remember(entry("r2", mine, reason="two cannot be reached"))
    unfinished.remember(entry("r1", mine))
    unfinished.remember(entry("r3", other))
    assert [known.run for known in unfinished.remembered(mine)] == ["r1", "r2"]
    assert [known.reason for known in unfinished.remembered(mine)] == ["", "two cannot be reached"]
    unfinished.forget("r1")
    unfinished.forget("r1")
    assert [known.run for known in unfinished.remembered(mine)] == ["r2"]


def test_what_was_learned_later_replaces_what_was_known(tmp_path: Path) -> None:
    unfinished.remember(entry("r1", tmp_path))
    unfinished.remember(entry("r1", tmp_path, reason="power"))
    (known,) = unfinished.remembered(tmp_path)
    assert known.reason == "power"


def test_a_run_whose_harness_is_at_work_is_live(tmp_path: Path) -> None:
    assert entry("r1", tmp_path, harness=unfinished.own_identity()).is_live
    pid, started = unfinished.own_identity()
    assert not entry("r1", tmp_path, harness=[pid, started + 1]).is_live, "another process has taken the id"
    assert not entry("r1", tmp_path, harness=[]).is_live


def test_a_file_that_cannot_be_understood_is_passed_over(tmp_path: Path) -> None:
    unfinished.remember(entry("r1", tmp_path))
    (paths.cache() / "unfinished" / "r0.json").write_text('{"of": "another version"}')
    (paths.cache() / "unfinished" / "r2.json").write_text("half a fi")
    assert [known.run for known in unfinished.remembered(tmp_path)] == ["r1"]
