"""The benchmark from end to end, once and small: that it measures, not what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pyharness.bench import __main__ as bench

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.benchmark, pytest.mark.gpu_0, pytest.mark.harness]


def test_two_nodes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISAGG_E2E_NET", "127.3")  # beside whatever else is up
    assert bench.main(["--nodes", "2", "--runs", "1", "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "bench.json").read_text())
    (size,) = document["sizes"]
    assert (size["nodes"], size["runs"], size["ratio"]) == (2, 1, 1.0)
    assert {"provision", "deploy", "verify", "exercise", "teardown", "around"} <= set(size["phases"])
    assert sum(size["phases"].values()) == pytest.approx(size["seconds"], abs=0.01)
    assert size["harness_mib"] > 10
    assert size["cpu_seconds"] > 0
    assert (tmp_path / "bench.svg").read_text().startswith("<svg")
