"""The lab for these tests: brought up where it is not, and left up. Without a Docker engine they end with one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.errors import UsageError
from pyharness.lab import description, engine, hosts, up
from pyharness.lab.model import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient

requires = "docker"


@pytest.fixture(scope="session")
def docker_client() -> DockerClient:
    """Return a client of this machine's Docker engine."""
    try:
        return engine.connect()
    except UsageError as error:
        pytest.exit(f"error: {error}", returncode=2)


@pytest.fixture(scope="session")
def lab(docker_client: DockerClient) -> Lab:
    """Return the lab, which is up."""
    shared = Lab()

    def tell(text: str) -> None:
        sys.stderr.write(f"lab: {text}\n")

    try:
        up.up(docker_client, shared, "simulator", tell)
    except UsageError as error:
        pytest.exit(f"error: {error}", returncode=2)
    return shared


@pytest.fixture
def fresh_host(docker_client: DockerClient, lab: Lab) -> Iterator[Callable[[int], str]]:
    """Return a function that makes a host, by the last part of its address, and returns its container's name."""
    made: list[str] = []

    def make(number: int) -> str:
        name = f"{lab.name}-test-{number}"
        made.append(name)
        hosts.remove_host(docker_client, lab, name)  # of an interrupted session
        hosts.start_host(docker_client, lab, name, str(lab.network[number]))
        return name

    yield make
    for name in made:
        hosts.remove_host(docker_client, lab, name)


@pytest.fixture(scope="session")
def lab_description(lab: Lab) -> dict[str, Any]:
    """Return what lab.yml says."""
    return description.read(lab)
