"""A lab's private network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from pyharness.errors import UsageError
from pyharness.lab import machine
from pyharness.lab.model import NAME_LABEL

if TYPE_CHECKING:
    from docker import DockerClient

    from pyharness.lab.model import Lab


def have(client: DockerClient, lab: Lab) -> None:
    """Have the lab's network.

    Raises:
        UsageError: its name or its addresses are taken.
    """
    try:
        network = client.networks.get(lab.name)
    except NotFound:
        _create(client, lab)
        return
    if network.attrs["Labels"].get(NAME_LABEL) != lab.name:
        raise UsageError(
            f"there is a Docker network {lab.name} that is no lab's; remove it: docker network rm {lab.name}"
        )


def _create(client: DockerClient, lab: Lab) -> None:
    # The engine minds its own networks only; a VPN's or the machine's own would silently be hidden.
    taken = [
        f"{known} by {device}" for device, known in machine.routes() if known.prefixlen and known.overlaps(lab.network)
    ]
    if taken:
        raise UsageError(
            f"network {lab.name} needs {lab.network}, and this machine reaches {', '.join(taken)}; see: ip route"
        )
    pool = IPAMPool(subnet=str(lab.network), gateway=lab.gateway)
    try:
        client.networks.create(
            lab.name,
            driver="bridge",
            ipam=IPAMConfig(pool_configs=[pool]),
            labels=lab.labels,
            check_duplicate=True,
            options={"com.docker.network.driver.mtu": str(machine.mtu())},
        )
    except APIError as error:
        raise UsageError(
            f"network {lab.name} cannot be made with {lab.network}: {error.explanation}; see which has these addresses:"
            " docker network ls, ip route"
        ) from error


def remove(client: DockerClient, lab: Lab) -> None:
    """Remove the lab's network; one that is gone is none to remove."""
    for network in client.networks.list(filters={"label": f"{NAME_LABEL}={lab.name}"}):
        network.remove()
