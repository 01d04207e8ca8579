"""The run's own process is ended, in a real container; everybody else's is left alone."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def running(host: Any, name: str) -> bool:
    answer: str = host.check_output("docker inspect --format '{{.State.Running}}' %s", name)
    return answer == "true"


def test_the_runs_process_was_killed(host: Any) -> None:
    assert running(host, "ours") is False
    assert host.check_output("docker inspect --format '{{.State.ExitCode}}' ours") == "137"


def test_another_runs_process_goes_on(host: Any) -> None:
    assert running(host, "theirs") is True


def test_the_memory_is_free(host: Any) -> None:
    used = host.check_output(
        "nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used,driver_version --format=csv,noheader,nounits"
    )
    assert [line.split(", ")[4] for line in used.splitlines()] == ["4", "20316"]


def test_the_node_is_not_in_quarantine(host: Any) -> None:
    assert not host.file("/var/lib/disagg-e2e/runs/quarantine.json").exists
