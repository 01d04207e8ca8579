"""Real Mooncake in containers on the lab's two hosts: asked directly, and with containers killed and started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.mooncake]

INVENTORY = paths.INVENTORIES / "lab"


@pytest.mark.parametrize("case", ["test_transfer_engine", "test_mooncake_store"])
@pytest.mark.usefixtures("lab")
def test_real_mooncake_passes(case: str, tmp_path: Path) -> None:
    report = run_case(Options(test_case=case, inventory=INVENTORY, results=tmp_path))
    assert report.verdict == "pass", report.failures
    assert (report.simulated, report.runtime, report.transport.used) == (False, "container", "tcp")
    assert {check.status for check in report.models[0].checks} == {"pass"}


@pytest.mark.usefixtures("lab")
def test_what_the_lab_cannot_take_is_unsupported_in_its_own_words(tmp_path: Path) -> None:
    report = run_case(Options(test_case="test_vllm_1p1d_erdma", inventory=INVENTORY, results=tmp_path))
    assert report.verdict == "error"
    assert {failure.class_ for failure in report.failures} == {"unsupported"}
    assert report.failures[0].evidence == "test_vllm_1p1d_erdma: the image has no vLLM"
