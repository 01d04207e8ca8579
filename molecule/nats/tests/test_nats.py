"""A host runs the NATS server of its distribution for a run, with JetStream, and not the package's own service."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.dynamo]

RUN_DIR = "/var/lib/runs/manual/nats"


def test_it_serves_with_jetstream(host: Any) -> None:
    address = host.interface("eth0").addresses[0]
    told = json.loads(host.check_output(f"curl --fail --silent http://{address}:8222/varz"))
    assert (told["host"], told["port"]) == (address, 4222)
    assert told["jetstream"]["config"]["store_dir"].startswith(RUN_DIR)
    hello = host.check_output(f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/4222; head -n 1 <&3'")
    assert hello.startswith("INFO {")


def test_it_is_the_runs_own(host: Any) -> None:
    (pid,) = host.check_output("pgrep --exact nats-server").split()
    parent = host.check_output(f"ps -o args= -p $(ps -o ppid= -p {pid})")
    assert f"supervisord -c {RUN_DIR}/supervisord.conf" in parent


def test_the_packages_own_service_does_not_start(host: Any) -> None:
    assert not host.service("nats-server").is_running
    assert not host.service("nats-server").is_enabled
