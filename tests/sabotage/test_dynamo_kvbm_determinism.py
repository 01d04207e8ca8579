"""An output that is altered on its way: the checks of test_dynamo_kvbm_determinism say whose it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import paths
from pyharness.verification.dynamo import determinism

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sabotage.conftest import Site

requires = "dynamo"
pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.dynamo]

CASE = "test_dynamo_kvbm_determinism"
TRACE = paths.PROJECT / "playbooks" / "traces" / "lighthouse.jsonl"


def nothing(*_what: object) -> dict[str, Any]:
    """Stand in for a check that this test is not about."""
    return {}


@pytest.mark.pre_merge
def test_one_worker_that_answers_another_word_is_found(
    real_site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of one worker's trace one token is another one."""
    for name in ("cache_reset", "output_survives_migration", "comparison_can_fail"):
        monkeypatch.setattr(determinism, name, nothing)
    rows = [json.loads(line) for line in TRACE.read_text(encoding="utf-8").splitlines()]
    rows[0]["output_token_ids"][11] = rows[0]["output_token_ids"][12]
    altered = tmp_path / "altered.jsonl"
    altered.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    trace = f"{{{{ '{altered}' if disagg_worker.name == 'worker-2' else '{TRACE}' }}}}"

    report = real_site.run(CASE, variants=("aggregated",), extra_vars={"dynamo_worker_replay_trace": trace})

    assert report.verdict == "fail", report.failures
    failed = {failure.check: failure for failure in report.failures}
    assert failed.keys() == {"output_identical", "output_identical_after_reset"}
    assert "of 50 outputs are not the expected one" in failed["output_identical"].evidence
    assert failed["output_identical"].class_ == "product"


@pytest.mark.nightly
def test_an_engine_without_its_trace_is_found(real_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a trace the simulated engine makes something up each time."""
    for name in ("cache_reset", "output_survives_migration"):
        monkeypatch.setattr(determinism, name, nothing)

    report = real_site.run(CASE, variants=("disaggregated",), extra_vars={"dynamo_worker_replay_trace": ""})

    assert report.verdict == "fail", report.failures
    failed = {failure.check: failure.evidence for failure in report.failures}
    assert "50 of 50 outputs are not the expected one" in failed["output_identical"]
