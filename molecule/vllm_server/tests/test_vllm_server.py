"""A host runs one prefill server (a program in vLLM's place) in a container, told all that a prefill server is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.vllm]

NAME = "disagg-e2e-manual-vllm-server-prefill"


def ask(host: Any, path: str, port: int = 8010) -> Any:
    """Ask the server from its host; fails on anything but 200."""
    address = host.interface("eth0").addresses[0]
    return json.loads(host.check_output(f"curl --fail --silent --max-time 20 http://{address}:{port}{path}"))


def test_it_serves_the_model_by_the_name_that_was_asked_for(host: Any) -> None:
    assert [model["id"] for model in ask(host, "/v1/models")["data"]] == ["Qwen/Qwen3-8B"]


def test_its_bootstrap_server_is_where_it_was_asked_for(host: Any) -> None:
    assert ask(host, "/query", 8998)["0"]["engine_id"].startswith("engine-")


def test_it_was_told_its_part_and_its_limits(host: Any) -> None:
    command = json.loads(host.check_output(f"docker inspect {NAME}"))[0]["Args"]
    connector = json.loads(command[command.index("--kv-transfer-config") + 1])
    assert connector == {
        "kv_connector": "MooncakeConnector",
        "kv_connector_module_path": "vllm_cpu_connector",
        "kv_role": "kv_producer",
        "kv_connector_extra_config": {"mooncake_protocol": "tcp"},
    }
    assert command[command.index("--max-model-len") + 1] == "512"
    assert command[command.index("--tensor-parallel-size") + 1] == "1"


def test_it_was_told_how_the_kv_cache_travels(host: Any) -> None:
    pid = host.check_output(f"docker inspect --format '{{{{.State.Pid}}}}' {NAME}")
    environment = host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ").splitlines()
    address = host.interface("eth0").addresses[0]
    expected = {"MC_FORCE_TCP=1", f"VLLM_HOST_IP={address}", "VLLM_MOONCAKE_BOOTSTRAP_PORT=8998", "GIVEN=1"}
    assert expected <= set(environment)


def test_nothing_is_left_of_the_run_that_was_ended(host: Any) -> None:
    assert host.check_output("docker ps --all --quiet --filter label=disagg-e2e.run=broken") == ""
    assert host.file("/var/lib/runs").listdir() == ["manual"]
