"""What follows a verdict never costs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyharness import history, html_report, metrics_file, publishing
from tests.unit import report_sample as sample
from tests.unit.builders import make_report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

HERE = Path("/inventories/here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "test_it"
    folder.mkdir(parents=True)
    return folder


def test_a_report_gets_its_page_its_metrics_and_its_place_in_the_history(folder: Path) -> None:
    told: list[str] = []
    publishing.publish(folder, sample.failed_report(), HERE, told.append)
    assert "failed: the product is wrong" in (folder / "report.html").read_text()
    assert 'verdict="fail"} 1.0' in (folder.parent / "metrics.prom").read_text()
    assert [run.verdict for run in history.runs("test_it", HERE)] == ["fail"]
    assert told == []


def test_the_page_is_compared_with_the_green_run_before_not_with_itself(folder: Path) -> None:
    earlier = make_report(run_id="20250101-000000-aaaa", phases=[sample.phase("provision", 0, 1)])
    now = make_report(phases=[sample.phase("provision", 0, 1)])
    for report in (earlier, now):
        report.judge()
        publishing.publish(folder, report, HERE, print)
    assert "Run 20250101-000000-aaaa" in (folder / "report.html").read_text()


def test_what_cannot_be_made_is_told_and_the_rest_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(html_report, "write", fail)
    monkeypatch.setattr(metrics_file, "write", fail)
    told: list[str] = []
    publishing.publish(folder, sample.failed_report(), HERE, told.append)
    assert told == [
        "report.html could not be made: OSError: no room",
        "metrics.prom could not be made: OSError: no room",
    ]
    assert len(history.runs()) == 1


def test_a_run_that_was_refused_is_no_run(folder: Path) -> None:
    publishing.publish(folder, make_report(), HERE, print)
    assert history.runs() == []
