"""Where the memory of GPUs is not to be had the role says who holds it, ends nothing, and keeps the node out of use."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def words(host: Any, name: str) -> str:
    """Return what the role said, which has to be one line."""
    text: str = host.file(f"/srv/refusals/{name}").content_string
    assert "\n" not in text
    return text


def test_a_strangers_program_is_named_with_its_container(host: Any) -> None:
    container, pid = host.check_output("docker inspect --format '{{.Id}} {{.State.Pid}}' theirs").split()
    for name in ("stranger", "validate"):
        told = words(host, name)
        assert told.startswith("gpu-alternative: GPU memory is ")
        assert f"pid {pid} of root" in told
        assert "tail --follow /dev/null" in told
    assert f"container {container[:12]}; end them, or choose other GPUs" in words(host, "stranger")
    assert "quarantine" not in words(host, "stranger")


def test_nobody_is_ended(host: Any) -> None:
    for name in ("theirs", "ours"):
        assert host.check_output("docker inspect --format '{{.State.Running}}' %s", name) == "true"


def test_a_node_that_cannot_be_cleaned_goes_into_quarantine(host: Any) -> None:
    told = words(host, "nobody")
    assert "by no process that nvidia-smi lists" in told
    assert told.endswith("(the node is now in quarantine)")
    entry = json.loads(host.file("/srv/refusals/quarantine.json").content_string)
    assert (entry["node"], entry["run"]) == ("gpu-alternative", "molecule")
    assert entry["reason"] in told


def test_the_next_run_says_why(host: Any) -> None:
    entry = json.loads(host.file("/srv/refusals/quarantine.json").content_string)
    told = words(host, "quarantine")
    assert told.startswith(
        f"gpu-alternative: in quarantine since {entry['since']} by run molecule: {entry['reason']}; "
    )
    assert told.endswith("release it with: python -m pyharness doctor --release gpu-alternative")


def test_a_released_node_is_used_again(host: Any) -> None:
    assert words(host, "well") == "was not refused"


def test_a_driver_that_does_not_answer_is_told_with_its_remedy(host: Any) -> None:
    told = words(host, "driver")
    assert "ended with status 18: Failed to initialize NVML: Driver/library version mismatch" in told
    assert told.endswith("reboot the node")
    assert not host.file("/var/lib/disagg-e2e/runs/quarantine.json").exists
