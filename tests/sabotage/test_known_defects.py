"""Defects that a declaration knows, on whole runs: the simulated decode server has the defect, or has not.

It is blamed on a package of the controller, whose version every run knows. That it is innocent changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from tests.sabotage.test_broken_deployments import decode

if TYPE_CHECKING:
    from pyharness.results import Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
PACKAGE, VERSION = "ansible-core", metadata.version("ansible-core")


@dataclass(frozen=True)
class Expected:
    """What has to come of a run.

    Attributes:
        verdict: of the run.
        state: of the defect.
        counted: the checks of the failures that count.
    """

    verdict: str
    state: str
    counted: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("misbehaviour", "version", "expected"),
    [
        pytest.param(["wrong-text"], VERSION, Expected("pass", "shows"), id="shows"),
        pytest.param([], VERSION, Expected("error", "gone", ("known_defects",)), id="gone"),
        pytest.param(["wrong-text"], "0", Expected("fail", "not_judged", ("answer_correct",)), id="other_version"),
        pytest.param([], "0", Expected("pass", "gone"), id="gone_in_another_version"),
        pytest.param(
            ["wrong-text", "recompute"],
            VERSION,
            Expected("fail", "shows", ("kv_cache_moved", "transport_used")),
            id="beside_another_failure",
        ),
    ],
)
def test_a_known_defect(
    site: Site, monkeypatch: pytest.MonkeyPatch, misbehaviour: list[str], version: str, expected: Expected
) -> None:
    declare(monkeypatch, version)
    report = site.run(extra_vars=decode(*misbehaviour))

    assert [seen.state for seen in report.known_defects] == [expected.state], report.failures
    assert tuple(failure.check for failure in report.failures if not failure.known) == expected.counted
    assert report.verdict == expected.verdict
    assert {check.id: check.status for check in report.models[0].checks}["answer_correct"] == (
        "fail" if "wrong-text" in misbehaviour else "pass"
    )
    assert known(report) == (["answer_correct"] if expected.state == "shows" else [])


def declare(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Let the main job know of a wrong answer of some version."""
    defect: dict[str, Any] = {
        "check": "answer_correct",
        "evidence": "differs from what one engine",
        "package": PACKAGE,
        "version": version,
        "reason": "it answers with other words",
    }
    declared = cases.load(CASE).model_dump(by_alias=True)
    case = cases.TestCase.model_validate({**declared, "known_defects": [defect]})
    monkeypatch.setattr(cases, "load", lambda _name: case)


def known(report: Report) -> list[str]:
    return [failure.check for failure in report.failures if failure.known]
