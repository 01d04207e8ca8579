"""A host runs etcd of its distribution for a run, and not the package's own service."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.dynamo]

RUN_DIR = "/var/lib/runs/manual/etcd"


def test_it_keeps_what_it_is_given(host: Any) -> None:
    address = host.interface("eth0").addresses[0]
    url = f"http://{address}:2379/v3/kv"
    put, asked = '{"key": "YQ==", "value": "Yg=="}', '{"key": "YQ=="}'  # a and b, as its gateway wants them
    host.check_output(f"curl --fail --silent --data '{put}' {url}/put")
    found = json.loads(host.check_output(f"curl --fail --silent --data '{asked}' {url}/range"))
    assert [entry["value"] for entry in found["kvs"]] == ["Yg=="]


def test_it_is_the_runs_own(host: Any) -> None:
    (pid,) = host.check_output("pgrep --exact etcd").split()
    parent = host.check_output(f"ps -o args= -p $(ps -o ppid= -p {pid})")
    assert f"supervisord -c {RUN_DIR}/supervisord.conf" in parent
    assert host.file(f"{RUN_DIR}/etcd.services").is_directory


def test_the_packages_own_service_does_not_start(host: Any) -> None:
    assert not host.service("etcd").is_running
    assert not host.service("etcd").is_enabled
