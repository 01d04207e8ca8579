"""The real engine on the CPU, in containers of the two hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from pyharness.lab import up
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from pyharness.lab.model import Lab

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.sglang]


def silent(_text: str) -> None:
    """Say nothing of the lab's progress."""


@pytest.fixture
def _real_engine(docker_client: DockerClient, lab: Lab) -> Iterator[None]:
    up.up(docker_client, lab, "sglang", silent)
    yield
    up.up(docker_client, lab, "simulator", silent)


@pytest.mark.usefixtures("_real_engine")
def test_both_models_pass_and_the_verdict_is_about_the_product(tmp_path: Path) -> None:
    report = run_case(Options(test_case="test_1p1d_erdma", inventory=paths.INVENTORIES / "lab", results=tmp_path))
    assert report.verdict == "pass", report.failures
    assert report.simulated is False
    assert report.engine["platform"] == "cpu"
    assert [model.verdict for model in report.models] == ["pass", "pass"]
    assert report.transport.used == "tcp"
