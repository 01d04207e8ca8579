"""junit.xml as its readers have it: by a schema made from what they document."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xmlschema

from pyharness import summaries
from pyharness.results_dir import ResultsDir
from tests.unit import report_sample as sample
from tests.unit.builders import make_check, make_failure, make_report

if TYPE_CHECKING:
    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "data" / "junit.xsd")
EXPECTED = {"kind": "failure", "reason": "known\x00", "check": "answer_correct", "evidence": "wrong"}
INFRASTRUCTURE = {"class": "infrastructure", "check": "deploy", "trial": None}


def model(**changes: Any) -> dict[str, Any]:
    checks = [make_check(), make_check("kv_cache_moved", "skipped"), make_check("transport_used", "fail")]
    return {"name": "org/model", "checks": checks, **changes}


REPORTS: dict[str, Report] = {
    "one that failed": sample.failed_report(),
    "one of which there is nothing": make_report(models=[]),
    "several failures of one check": make_report(
        models=[model()],
        failures=[
            make_failure(check="transport_used"),
            make_failure(**{"class": "infrastructure"}, check="transport_used"),
            *(make_failure(**INFRASTRUCTURE, evidence=f"task {number}") for number in range(3)),
            make_failure(check="kv_cache_moved", evidence=""),
        ],
    ),
    "one that went as expected": make_report(models=[model(expected=EXPECTED)], failures=[make_failure()]),
    "hostile words": make_report(
        models=[model()], failures=[make_failure(evidence="\n".join(sample.HOSTILE), check="a\x1b<b>", trial="x\x00y")]
    ),
    "the same check in two trials": make_report(models=[model(), model(variant="nvlink")]),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_valid(name: str, tmp_path: Path) -> None:
    ResultsDir(tmp_path, "test_it").write(REPORTS[name])
    SCHEMA.validate(tmp_path / "test_it" / "junit.xml")


def test_the_junit_of_a_suite_is_valid(tmp_path: Path) -> None:
    summaries.write(tmp_path, list(REPORTS.values()), ["test_it"] * len(REPORTS))
    SCHEMA.validate(tmp_path / "junit.xml")


def test_several_failures_of_one_check_are_one_outcome_with_all_their_words(tmp_path: Path) -> None:
    ResultsDir(tmp_path, "test_it").write(REPORTS["several failures of one check"])
    suite = ET.parse(tmp_path / "test_it" / "junit.xml").getroot()  # noqa: S314 (our own file)
    found = {case.get("name"): case for case in suite}
    assert [child.tag for child in found["transport_used"]] == ["failure"]
    (error,) = found["deploy"]
    assert error.tag == "error"
    assert all(f"task {number}" in str(error.text) for number in range(3))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "4",
        "2",
        "1",
        "0",
    )


@pytest.mark.parametrize(
    "content",
    [
        '<testsuite name="a" tests="1" failures="0" errors="0" skipped="0" time="1" timestamp="2026-01-01T00:00:00">{}'
        "</testsuite>".format('<testcase name="a" classname="b" time="0"/>' * 2),
        "<testsuites skipped='1'/>",
        "<testsuite name='a'/>",
    ],
)
def test_the_schema_refuses_what_the_readers_do_not_take(content: str) -> None:
    assert not SCHEMA.is_valid(content)
