"""A host runs a proxy in front of a prefill and a decode server, and both are told of the same transfer."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.vllm]

PROXY, PREFILL, DECODE = 8000, 8010, 8020


def ask(host: Any, port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask a server from its host; fails on anything but 200."""
    address = host.interface("eth0").addresses[0]
    posted = f"--json '{json.dumps(body)}'" if body is not None else ""
    return json.loads(host.check_output(f"curl --fail --silent --max-time 30 {posted} http://{address}:{port}{path}"))


def test_a_request_reaches_both_servers_as_one_transfer(host: Any) -> None:
    answer = ask(host, PROXY, "/v1/completions", {"prompt": "What is", "max_tokens": 4})
    assert answer["choices"][0]["text"] == "a whole answer"
    there, here = ask(host, PREFILL, "/seen")[-1], ask(host, DECODE, "/seen")[-1]
    assert there["do_remote_decode"]
    assert here["do_remote_prefill"]
    assert there["transfer_id"] == here["transfer_id"]


def test_its_container_has_none_of_what_engines_get(host: Any) -> None:
    found = json.loads(host.check_output("docker inspect disagg-e2e-manual-vllm-proxy-router"))[0]["HostConfig"]
    assert found["ShmSize"] == 64 << 20
    assert not found["Devices"]
    assert not found["DeviceRequests"]


def test_nothing_is_left_of_the_run_that_was_ended(host: Any) -> None:
    assert host.check_output("docker ps --all --quiet --filter label=disagg-e2e.run=alone") == ""
