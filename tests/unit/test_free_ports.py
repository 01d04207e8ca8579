"""Module free_ports, run as Ansible runs it."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.disagg.e2e.plugins.modules import free_ports
from tests.unit.module_runner import run

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


@pytest.mark.parametrize("everywhere", [False, True])
def test_each_name_gets_a_port_of_its_own_that_can_be_listened_on(*, everywhere: bool) -> None:
    names = ["rpc", "metrics", "metadata"]
    result = run(free_ports, address="127.0.0.1", names=names, everywhere=everywhere)
    assert list(result["ports"]) == names
    assert len(set(result["ports"].values())) == len(names)
    assert result["changed"] is False
    for port in result["ports"].values():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused() -> None:
    result = run(free_ports, address="192.0.2.1", names=["rpc"])
    assert result["failed"]
    assert result["msg"].startswith("192.0.2.1: no 1 free ports: ")
