"""metrics.prom: read back by Prometheus' own parsers, of both formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older

from pyharness import metrics_file
from tests.unit import report_sample as sample
from tests.unit.builders import make_report

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.samples import Sample

    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# What node_exporter's textfile collector knows (expfmt's text format 0.0.4).
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(text: str, name: str, **labels: str) -> float:
    (found,) = (entry for entry in samples(text) if entry.name == name and labels.items() <= entry.labels.items())
    return found.value


@pytest.fixture
def text() -> str:
    return metrics_file.text([sample.failed_report()])


def test_a_run_as_openmetrics(text: str) -> None:
    assert value(text, "disagg_e2e_run_verdict", verdict="fail", test_case="test_it") == 1
    assert value(text, "disagg_e2e_run_verdict", verdict="pass") == 0
    assert value(text, "disagg_e2e_trial_verdict", trial="org/model", verdict="fail") == 1
    assert value(text, "disagg_e2e_run_duration_seconds", part="total") == 29.4
    assert value(text, "disagg_e2e_phase_duration_seconds", phase="deploy", trial="org/model") == 12.0
    assert value(text, "disagg_e2e_run_start_timestamp_seconds") == sample.BEGAN
    assert value(text, "disagg_e2e_run_end_timestamp_seconds") == sample.BEGAN + 30
    assert value(text, "disagg_e2e_run_checks", status="fail") == 1
    assert value(text, "disagg_e2e_run_failures", **{"class": "product"}) == 2
    assert value(text, "disagg_e2e_run_details", simulated="true", transport="tcp", wheel_sha256="0" * 64) == 1
    assert text.endswith("# EOF\n")


def test_of_the_verdicts_exactly_one_holds(text: str) -> None:
    assert sum(entry.value for entry in samples(text) if entry.name == "disagg_e2e_run_verdict") == 1


def test_units_stand_in_the_names(text: str) -> None:
    for family in text_string_to_metric_families(text):
        assert family.unit == ("seconds" if family.name.endswith("_seconds") else "")


def test_the_textfile_collector_takes_it(text: str) -> None:
    families = list(older(text))
    assert {family.type for family in families} <= TYPES
    assert all(entry.timestamp is None for family in families for entry in family.samples)
    types = {line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    assert types <= TYPES


def test_names_that_are_hard_to_write_come_back_as_they_were() -> None:
    inventory = 'a "quoted"\\path\nwith a line'
    text = metrics_file.text([make_report(inventory=inventory, finished_at="2026-01-01T00:00:30Z")])
    assert {entry.labels["inventory"] for entry in samples(text)} == {inventory}


def leave(results: Path, report: Report) -> None:
    (results / report.test_case).mkdir(parents=True)
    (results / report.test_case / "report.json").write_text(json.dumps(report.to_json()))


def test_the_file_has_the_newest_run_of_every_test_case(tmp_path: Path) -> None:
    ended = {"finished_at": "2026-01-01T00:00:30Z"}
    leave(tmp_path, make_report(test_case="test_a", **ended))
    leave(tmp_path, make_report(test_case="test_it", run_id="older", **ended))
    leave(tmp_path, make_report(test_case="test_killed"))
    (tmp_path / "test_broken").mkdir()
    (tmp_path / "test_broken/report.json").write_text("{")
    path = metrics_file.write(tmp_path, sample.failed_report())
    assert path == tmp_path / "metrics.prom"
    found = [entry.labels for entry in samples(path.read_text()) if entry.name == "disagg_e2e_run_details"]
    assert [labels["test_case"] for labels in found] == ["test_a", "test_it"]
    assert found[1]["run_id"] != "older"
