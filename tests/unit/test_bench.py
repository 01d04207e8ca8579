"""What the benchmark makes of its runs; the runs themselves are in tests/integration/test_bench_runs.py."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.bench import __main__ as bench
from pyharness.bench import chart, measure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def run(nodes: int, seconds: float, **changes: Any) -> measure.Run:
    values: dict[str, Any] = {
        "nodes": nodes,
        "seconds": seconds,
        "cpu_seconds": seconds * 2,
        "own_seconds": seconds / 2,
        "phases": {"provision": seconds / 4, "deploy": seconds / 2, "around": seconds / 4},
        "harness_mib": 80.0,
        "load": 0.5,
    }
    return measure.Run(**values | changes)


RUNS = [run(2, 6.0), run(64, 40.0), run(2, 5.0), run(64, 30.0, harness_mib=120.0), run(2, 20.0), run(64, 33.0)]


def test_a_size_is_the_median_of_its_runs_and_a_ratio_to_the_smallest() -> None:
    two, many = measure.summarise(RUNS)
    assert (two.nodes, two.runs, two.seconds, two.ratio) == (2, 3, 6.0, 1.0)
    assert (many.nodes, many.seconds, many.ratio, many.cpu_ratio) == (64, 33.0, 5.5, 5.5)
    assert many.seconds_per_node == pytest.approx(33.0 / 64, abs=0.001)
    assert many.phases == {"provision": 8.25, "deploy": 16.5, "around": 8.25}
    assert many.harness_mib == 120.0, "of memory the most, not the median"


def test_the_document_can_be_written_and_has_every_run() -> None:
    document = json.loads(json.dumps(measure.document(RUNS, {"html": {"seconds": 1.5}})))
    assert len(document["runs"]) == len(RUNS)
    assert [size["nodes"] for size in document["sizes"]] == [2, 64]
    assert document["others"] == {"html": {"seconds": 1.5}}


def test_the_chart_has_a_bar_per_size_and_a_part_per_phase() -> None:
    drawn = ET.fromstring(chart.svg(measure.summarise(RUNS)))  # noqa: S314 (what was just made)
    names = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"2 nodes", "64 nodes", "provision", "deploy"} <= set(names)
    parts = [element for element in drawn.iter("{http://www.w3.org/2000/svg}rect") if element.find("*") is not None]
    assert len(parts) == 6
    assert all(float(part.attrib["height"]) > 0 for part in parts)


def test_the_table_has_a_line_per_size() -> None:
    lines = bench.table(measure.summarise(RUNS)).splitlines()
    assert lines[0].split()[:3] == ["nodes", "seconds", "ratio"]
    assert [line.split()[:3] for line in lines[1:]] == [["2", "6.0", "1.00"], ["64", "33.0", "5.50"]]


@pytest.mark.parametrize("words", [["--nodes", "3"], ["--nodes", "0"], ["--runs", "0"], ["--runs", "many"]])
def test_figures_that_will_not_do_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(words)
    assert ended.value.code == 2
    assert "has to be" in capsys.readouterr().err


def test_a_run_that_did_not_pass_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "CASE", "test_no_such_case")
    assert bench.main(["--nodes", "2", "--runs", "1", "--out", str(tmp_path)]) == 2
    assert "2 nodes: test_no_such_case ended with 2" in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()
