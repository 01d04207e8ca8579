"""Ranks and servers broken on purpose: a wrong number, a loss that nobody notices, another backend than Mooncake."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.mooncake]
requires = "sglang"

CASE = "test_moe_mooncake"
# Small and quick: what is tested is that a check fails. Mooncake's decision comes four seconds after a failure.
FIGURES = {
    "sizes": [1000],
    "dtypes": ["float32"],
    "large": 2000,
    "half_dtypes": ["float16"],
    "notice_seconds": 20,
    "collective_timeout": 2,
    "reconciliation_window": 4,
}


@dataclass(frozen=True)
class Sabotage:
    """What is broken, and what has to come of it.

    Attributes:
        name: what is broken.
        misbehave: by rank what it does wrong.
        checks: the checks that have to fail; no other may fail.
        evidence: expression that the first failure's evidence has to match.
        figures: of the workload, besides FIGURES.
    """

    name: str
    misbehave: dict[str, list[str]]
    checks: tuple[str, ...]
    evidence: str
    figures: dict[str, Any] = field(default_factory=dict)


SABOTAGES = [
    Sabotage(
        "a_rank_gives_a_wrong_number",
        {"rank2": ["wrong-number"]},
        ("all_reduce_right", "all_gather_right", "all_to_all_right", "reduce_scatter_right", "survivors_go_on"),
        "all_reduce of 1000 float32: rank 0 got other numbers than the ranks",
    ),
    Sabotage(
        "a_survivor_hides_the_loss",
        {"rank2": ["hides-loss"]},
        ("loss_noticed",),
        "rank 2 was in an operation without rank 1, which had been killed, and does not name it",
    ),
    Sabotage(
        "a_survivor_never_answers",
        {"rank2": ["silent-after-loss"]},
        ("loss_noticed",),
        "rank2 on prefill did not do collective: no answer within 30 s",
    ),
    Sabotage(
        "a_survivor_is_wrong_afterwards",
        {"rank0": ["wrong-after-loss"]},
        ("survivors_go_on",),
        "all_reduce of 2000 float32: rank 0 got other numbers than the ranks",
    ),
    Sabotage(
        "the_group_is_not_mooncakes",
        {f"rank{number}": ["other-backend"] for number in range(3)},
        ("group_complete",),
        "rank0 is not in the group as it was deployed: backend is 'gloo' instead of 'mooncake-cpu'",
    ),
    Sabotage(
        "the_loss_is_noticed_too_late",
        {},
        ("loss_noticed",),
        "took .* s to notice that rank 1 is gone; 1 s are allowed",
        {"notice_seconds": 1},
    ),
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_broken_group_is_a_failure(real_site: Site, sabotage: Sabotage) -> None:
    report = real_site.run(
        CASE,
        variants=("process_group",),
        extra_vars={
            "disagg_misbehave": sabotage.misbehave,
            "disagg_workloads": {CASE: {**FIGURES, **sabotage.figures}},
        },
    )

    assert report.verdict == "fail", report.failures
    assert tuple(dict.fromkeys(failure.check for failure in report.failures)) == sabotage.checks
    assert report.failures[0].class_ == "product"
    assert re.search(sabotage.evidence, report.failures[0].evidence), report.failures[0].evidence


def test_a_server_whose_ranks_use_another_backend_is_a_failure(real_site: Site) -> None:
    """SGLang as released on a CPU: it takes the option for Mooncake, and gloo in silence. The answer is right."""
    report = real_site.run(
        CASE, variants=("elastic_ep",), extra_vars={"disagg_environment": {"SGLANG_PLUGINS": "fork_workers"}}
    )

    assert report.verdict == "fail", report.failures
    assert [failure.check for failure in report.failures] == ["collectives_over_mooncake"]
    assert "of 2 ranks 0 got their share of the experts' sums through Mooncake" in report.failures[0].evidence
