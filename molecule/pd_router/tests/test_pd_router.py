"""A host runs a router in front of a prefill and a decode server, and a request comes back through all of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.router]

ROUTER, PREFILL, METRICS = 8000, 30001, 29000
BODY = {"text": "Let me tell you a short story ", "sampling_params": {"temperature": 0, "max_new_tokens": 16}}


def ask(host: Any, port: int, path: str, body: dict[str, Any] | None = None) -> str:
    """Ask a server from its host; fails on anything but 200."""
    address = host.interface("eth0").addresses[0]
    posted = f"--json '{json.dumps(body)}'" if body is not None else ""
    text: str = host.check_output(f"curl --fail --silent --max-time 30 {posted} http://{address}:{port}{path}")
    return text


def counted(metrics: str, name: str) -> float:
    """Return the sum of all series of a counter."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE))


def test_a_request_comes_back_through_both_servers(host: Any) -> None:
    before = counted(ask(host, PREFILL, "/metrics"), "sglang:kv_transfer_total_mb.*")
    answer = json.loads(ask(host, ROUTER, "/generate", BODY))
    assert answer["text"]
    assert answer["meta_info"]["completion_tokens"] == 16
    assert counted(ask(host, PREFILL, "/metrics"), "sglang:kv_transfer_total_mb.*") > before


def test_its_metrics_are_where_they_were_asked_for(host: Any) -> None:
    assert "# TYPE " in ask(host, METRICS, "/metrics")


def test_its_container_has_none_of_what_engines_get(host: Any) -> None:
    found = json.loads(host.check_output("docker inspect disagg-e2e-manual-pd-router-router"))[0]["HostConfig"]
    assert found["ShmSize"] == 64 << 20
    assert not found["Devices"]
    assert not found["DeviceRequests"]


def test_nothing_is_left_of_the_run_that_was_ended(host: Any) -> None:
    assert host.check_output("docker ps --all --quiet --filter label=disagg-e2e.run=alone") == ""
