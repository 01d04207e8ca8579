"""Services that break in their containers: the same verdicts as for processes, with the container's last words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import paths
from pyharness.lab import hosts
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]


@dataclass(frozen=True)
class Broken:
    """One way to break a run, and what has to come of it."""

    variables: dict[str, Any]
    verdict: str
    check: str
    class_: str
    told: str


BROKEN = {
    "decode_dies_before_it_is_ready": Broken(
        {"disagg_misbehave": {"decode": ["die-before-ready"]}}, "fail", "services_ready", "product", "Traceback"
    ),
    "decode_exits_at_once": Broken(
        {"disagg_misbehave": {"decode": ["exit-after-start=0"]}}, "fail", "services_ready", "product", "exit status"
    ),
    "decode_dies_on_a_request": Broken(
        {"disagg_misbehave": {"decode": ["die-on-request"]}},
        "fail",
        "router_ready",
        "product",
        "decode on lab-2 .*ended",
    ),
    "decode_recomputes": Broken(
        {"disagg_misbehave": {"decode": ["recompute"]}}, "fail", "kv_cache_moved", "product", "itself"
    ),
    "rdma_asked_and_tcp_used": Broken(
        {"disagg_transport": "rdma", "disagg_rdma_preflight": False},
        "fail",
        "transport_used",
        "product",
        "went by tcp, and rdma was asked for",
    ),
}


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_service_is_never_a_pass_and_leaves_nothing(
    name: str, docker_client: DockerClient, tmp_path: Path
) -> None:
    broken = BROKEN[name]
    options = Options(
        test_case="test_1p1d_erdma",
        inventory=paths.INVENTORIES / "lab",
        results=tmp_path,
        models=("Qwen/Qwen3-8B",),
        extra_vars=broken.variables,
    )
    report = run_case(options)
    first = report.failures[0]
    assert (report.verdict, first.check, first.class_) == (broken.verdict, broken.check, broken.class_), report.failures
    assert re.search(broken.told, first.evidence), first.evidence
    assert [(check.id, check.status) for check in report.checks] == [("nodes_clean", "pass")]
    for host in ("disagg-lab-1", "disagg-lab-2"):
        left = "docker ps --all --quiet --filter label=disagg-e2e.run"
        assert hosts.run(docker_client, host, left) == ""
