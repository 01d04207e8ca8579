"""The logs of what passed are judged: a pass with trouble in them is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness.case import AllowedLine
from tests.unit.builders import make_failure
from tests.unit.explained_runs import FULL, TRIAL, explained, told

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def test_a_pass_with_clean_logs_has_a_check_that_says_so(tmp_path: Path) -> None:
    report = explained(tmp_path, decode="all is well\n", prefill="here too\n")
    check = report.models[0].checks[-1]
    assert (check.id, check.status, check.evidence["logs"], check.evidence["lines"]) == ("logs_clean", "pass", 2, 0)
    assert report.judge() == "pass"


LEAK = "ValueError: token_to_kv_pool_allocator memory leak detected! available_size=1"


def test_a_pass_with_trouble_in_its_logs_is_none(tmp_path: Path) -> None:
    report = explained(tmp_path, decode=f"fine\n{LEAK}\n", prefill="E1 client_service.cpp:1] Failed to ping master\n")
    assert told(report) == [("logs_clean", "product.pool_leak", "product", False)]
    check = report.models[0].checks[-1]
    assert (check.status, check.evidence["lines"]) == ("fail", 2)
    assert {entry["rule"] for entry in check.evidence["found"]} == {"product.pool_leak", "mooncake.master_lost"}
    assert f"logs/{TRIAL}/decode.log:2 on two: {LEAK}" in report.failures[0].evidence
    assert report.judge() == "fail"


def test_trouble_that_is_not_the_products_makes_it_an_error(tmp_path: Path) -> None:
    assert explained(tmp_path, decode=FULL + "\n").judge() == "error"


@pytest.mark.parametrize("allowed", [{"rule": "product.pool_leak"}, {"pattern": "memory leak detected"}])
def test_a_line_that_the_case_allows_is_none(allowed: dict[str, str], tmp_path: Path) -> None:
    entry = AllowedLine.model_validate({**allowed, "reason": "it does so"})
    report = explained(tmp_path, allowed=[entry], decode=f"{LEAK}\n")
    assert report.failures == []
    check = report.models[0].checks[-1]
    assert check.evidence["allowed"] == [
        {"rule": "product.pool_leak", "file": f"logs/{TRIAL}/decode.log", "count": 1, "reason": "it does so"}
    ]


def test_one_allowed_line_does_not_allow_another_of_its_rule(tmp_path: Path) -> None:
    entry = AllowedLine(pattern="size=1$", reason="it does so")
    report = explained(tmp_path, allowed=[entry], decode=f"{LEAK}\n{LEAK}2\n")
    assert report.models[0].checks[-1].evidence["lines"] == 1
    assert report.failures[0].line is not None
    assert report.failures[0].line.line == 2


def test_a_note_is_no_trouble(tmp_path: Path) -> None:
    assert explained(tmp_path, decode="Topology discovery complete. Found 0 HCAs.\n").judge() == "pass"


def test_the_logs_of_what_failed_are_not_judged_once_more(tmp_path: Path) -> None:
    report = explained(tmp_path, make_failure(), decode=f"{LEAK}\n")
    assert [entry.check for entry in report.failures] == ["answer_correct"]
    check = report.models[0].checks[-1]
    assert (check.status, check.evidence["lines"]) == ("skipped", 1)


def test_without_logs_nothing_is_judged(tmp_path: Path) -> None:
    check = explained(tmp_path).models[0].checks[-1]
    assert (check.status, check.evidence["logs"]) == ("skipped", 0)
