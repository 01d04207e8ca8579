"""The inventory of any number of logical nodes: as many as asked for, each with an address of its own."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pyharness import paths

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

SCRIPT = paths.PROJECT / "inventories" / "scale" / "hosts.py"


def listed(**environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("DISAGG_E2E_")}
    command = [sys.executable, str(SCRIPT), "--list"]
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, check=False, timeout=30)


def inventory(**environment: str) -> dict[str, Any]:
    return dict(json.loads(listed(**environment).stdout))


def test_it_is_a_program() -> None:
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize(
    ("environment", "prefill", "decode"),
    [
        ({}, 1, 1),
        ({"DISAGG_E2E_PAIRS": "32"}, 32, 32),
        ({"DISAGG_E2E_PAIRS": "4", "DISAGG_E2E_DECODE": "7"}, 4, 7),
        ({"DISAGG_E2E_PREFILL": "1000", "DISAGG_E2E_DECODE": "1000"}, 1000, 1000),
    ],
)
def test_it_has_as_many_nodes_as_asked_for_and_no_address_twice(
    environment: dict[str, str], prefill: int, decode: int
) -> None:
    found = inventory(**environment)
    assert len(found["prefill_nodes"]["hosts"]) == prefill
    assert len(found["decode_nodes"]["hosts"]) == decode
    addresses = [ipaddress.ip_address(entry["ansible_host"]) for entry in found["_meta"]["hostvars"].values()]
    assert len(set(addresses)) == prefill + decode
    assert all(address.is_loopback for address in addresses)


def test_two_runs_can_have_addresses_of_their_own() -> None:
    one, other = inventory(), inventory(DISAGG_E2E_NET="127.2")
    assert {entry["ansible_host"] for entry in one["_meta"]["hostvars"].values()} == {"127.1.1.1", "127.1.2.1"}
    assert {entry["ansible_host"] for entry in other["_meta"]["hostvars"].values()} == {"127.2.1.1", "127.2.2.1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("PAIRS", "0"), ("PAIRS", "many"), ("DECODE", "1001"), ("PREFILL", "-1"), ("NET", "10.0"), ("NET", "127.256")],
)
def test_what_will_not_do_is_told(name: str, value: str) -> None:
    done = listed(**{f"DISAGG_E2E_{name}": value})
    assert done.returncode == 1
    assert f"DISAGG_E2E_{name} is '{value}': it has to be" in done.stderr
