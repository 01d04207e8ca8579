"""Molecule's scenarios can run side by side, and each has what makes it one."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pyharness import paths

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

SHARED = paths.PROJECT / "molecule" / "common"
SCENARIOS = sorted(path.parent for path in paths.PROJECT.glob("molecule/*/molecule.yml"))
FIRST, LAST = ipaddress.IPv4Address("198.18.77.101"), ipaddress.IPv4Address("198.18.77.199")

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def hosts_of(scenario: Path) -> dict[str, str]:
    """Return the address of each host."""
    return {
        name: host["ansible_host"] for name, host in load(scenario / "inventory" / "hosts.yml")["all"]["hosts"].items()
    }


def test_there_are_scenarios_to_look_at() -> None:
    assert {"docker_engine", "image"} <= {scenario.name for scenario in SCENARIOS}


@each_scenario
def test_a_scenario_has_its_files(scenario: Path) -> None:
    assert (scenario / "converge.yml").is_file()
    assert list((scenario / "tests").glob("test_*.py")), "nothing would be verified"


@each_scenario
def test_a_scenario_is_named_after_a_role(scenario: Path) -> None:
    roles = {path.name for path in (paths.COLLECTION / "roles").iterdir() if path.is_dir()}
    assert any(scenario.name == role or scenario.name.startswith(f"{role}_") for role in roles)


@each_scenario
def test_addresses_are_molecules_part_of_the_network(scenario: Path) -> None:
    for name, address in hosts_of(scenario).items():
        assert FIRST <= ipaddress.IPv4Address(address) <= LAST, name
        assert "_" not in name, "a host's name has none"


def test_no_two_scenarios_share_a_host_or_an_address() -> None:
    hosts = [pair for scenario in SCENARIOS for pair in hosts_of(scenario).items()]
    names, addresses = [name for name, _ in hosts], [address for _, address in hosts]
    assert sorted(set(names)) == sorted(names)
    assert sorted(set(addresses)) == sorted(addresses)


def test_what_testinfra_reads_has_no_templates() -> None:
    files = [
        *SHARED.glob("inventory/*.yml"),
        *(one for scenario in SCENARIOS for one in scenario.glob("inventory/*.yml")),
    ]
    assert len(files) > len(SCENARIOS)
    assert [path for path in files if "{{" in path.read_text(encoding="utf-8")] == []
