"""A host runs Mooncake's master, the wheel's own, and a metadata server beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

MASTER, METADATA = 9003, 18080
CONTAINER = "disagg-e2e-manual-mooncake-master-master"


def ask(host: Any, port: int, path: str, *options: str) -> str:
    """Ask a server from its host."""
    address = host.interface("eth0").addresses[0]
    text: str = host.check_output(f"curl --silent --max-time 10 {' '.join(options)} 'http://{address}:{port}{path}'")
    return text


def test_the_master_serves(host: Any) -> None:
    assert json.loads(ask(host, MASTER, "/health"))["service_ready"] is True
    assert ask(host, MASTER, "/get_all_segments") == ""


def test_the_metadata_server_keeps_what_it_is_given(host: Any) -> None:
    assert ask(host, METADATA, "/metadata?key=a", "--upload-file", "/etc/hostname") == "metadata updated"
    assert ask(host, METADATA, "/metadata?key=a") == host.file("/etc/hostname").content_string.strip()
    assert ask(host, METADATA, "/health") == "OK"


def test_its_process_is_the_wheels_binary_and_nothing_between(host: Any) -> None:
    pid = host.check_output(f"docker inspect --format '{{{{.State.Pid}}}}' {CONTAINER}")
    child = host.check_output(f"cat /proc/{pid}/task/{pid}/children").split()[0]
    program = host.check_output(f"readlink /proc/{child}/exe")
    assert program.startswith("/srv/wheels/")
    assert program.endswith("/mooncake/mooncake_master")


def test_it_listens_where_it_was_told_to_only(host: Any) -> None:
    address = host.interface("eth0").addresses[0]
    for port in (50051, MASTER, METADATA):
        assert host.socket(f"tcp://{address}:{port}").is_listening
        assert not host.socket(f"tcp://127.0.0.1:{port}").is_listening
