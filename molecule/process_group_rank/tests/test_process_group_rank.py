"""A host has been told to start a rank, with its program in the run's directory."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

RUN = "/var/lib/runs/manual/process-group-rank"


def test_its_program_is_in_the_runs_directory_and_cannot_be_changed_from_inside(host: Any) -> None:
    assert host.file(f"{RUN}/programs/rank_agent.py").exists
    mounts = json.loads(host.check_output("docker inspect disagg-e2e-manual-process-group-rank-rank1"))[0]["Mounts"]
    programs = [mount for mount in mounts if mount["Destination"].endswith("/programs")]
    assert [(mount["Source"], mount["RW"]) for mount in programs] == [(f"{RUN}/programs", False)]


def test_it_is_told_to_use_tcp_and_nothing_else(host: Any) -> None:
    found = json.loads(host.check_output("docker inspect disagg-e2e-manual-process-group-rank-rank1"))[0]["Config"]
    assert "MC_FORCE_TCP=1" in found["Env"]
    assert "--devices=" in found["Cmd"]
