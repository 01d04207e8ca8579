"""A host runs one server (the simulated engine) in a container, and it answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

NAME = "disagg-e2e-manual-sglang-server-single"


def ask(host: Any, path: str, body: dict[str, Any] | None = None) -> str:
    """Ask the server from its host; fails on anything but 200."""
    address = host.interface("eth0").addresses[0]
    posted = f"--json '{json.dumps(body)}'" if body is not None else ""
    text: str = host.check_output(f"curl --fail --silent --max-time 20 {posted} http://{address}:30001{path}")
    return text


def test_it_answers_a_prompt_and_the_same_again(host: Any) -> None:
    body = {"text": "Let me tell you a short story ", "sampling_params": {"temperature": 0, "max_new_tokens": 16}}
    first, second = (json.loads(ask(host, "/generate", body)) for _ in range(2))
    assert first["text"]
    assert first["text"] == second["text"]
    assert first["meta_info"]["completion_tokens"] == 16


def test_it_serves_the_model_by_the_name_that_was_asked_for(host: Any) -> None:
    models = json.loads(ask(host, "/v1/models"))["data"]
    assert [model["id"] for model in models] == ["Qwen/Qwen3-8B"]


def test_it_counts_what_it_prefilled(host: Any) -> None:
    assert "sglang:prompt_tokens_total" in ask(host, "/metrics")


def test_it_was_told_how_the_kv_cache_travels(host: Any) -> None:
    pid = host.check_output(f"docker inspect --format '{{{{.State.Pid}}}}' {NAME}")
    environment = host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ").splitlines()
    assert {"MOONCAKE_PROTOCOL=tcp", "MC_FORCE_TCP=1", "GIVEN=1", "DISAGG_E2E_RUN=manual"} <= set(environment)


def test_nothing_is_left_of_the_run_that_was_ended(host: Any) -> None:
    assert host.check_output("docker ps --all --quiet --filter label=disagg-e2e.run=broken") == ""
    assert host.file("/var/lib/runs").listdir() == ["manual"]
