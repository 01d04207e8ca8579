"""Bring a lab up, and take it down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pyharness.errors import UsageError
from pyharness.lab import (
    base_image,
    description,
    environment,
    host_image,
    hosts,
    images,
    keys,
    network,
    registry,
    service_image,
)
from pyharness.lab.model import LABEL, NAME_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

    from pyharness.lab.model import Lab


def up(client: DockerClient, lab: Lab, engine: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Bring a lab up: its hosts, its registry, and in that the image of an engine's services.

    What is up and made of the same is left alone.

    Args:
        client: the Docker engine.
        lab: the lab.
        engine: simulator or sglang.
        tell: told of each step that takes long.

    Returns:
        what lab.yml says then.

    Raises:
        UsageError: something is missing on this machine, or does not come up.
    """
    with keys.locked(lab, "up"), ThreadPoolExecutor() as pool:
        keys.have(lab)
        # Neither takes the Docker engine long, and the first of them may have to download.
        wanted = pool.submit(environment.have, lab, engine, tell)
        network.have(client, lab)
        base = base_image.have(client, tell)
        serving = pool.submit(_serve, client, lab, base)
        host = host_image.have(client, base, tell)
        host_image.probe(client, host, lab.state_dir)
        started = [pool.submit(_start, client, lab, name, address, tell) for name, address in lab.hosts.items()]
        service = service_image.have(client, lab, base, engine, wanted.result())
        serving.result()
        digest = registry.push(client, lab, service.image, service.repository, service.tag)
        for one in started:
            one.result()
        _reach(client, lab)
        content = description.describe(lab, engine, service, digest, host)
        description.write(lab, content)
    return content


def _serve(client: DockerClient, lab: Lab, base: str) -> None:
    registry.have(client, lab, registry.have_image(client, base))


def _start(client: DockerClient, lab: Lab, name: str, address: str, tell: Callable[[str], None]) -> None:
    if hosts.start_host(client, lab, name, address):
        tell(f"{name}: answers ssh on {address}")


def _reach(client: DockerClient, lab: Lab) -> None:
    """Prove that the hosts reach each other and the registry: a machine may drop frames between its containers."""
    for name in lab.hosts:
        for address in lab.hosts.values():
            command = f"ping -q -c 1 -W 5 {address} && curl -fsS -m 5 http://{lab.registry}/v2/"
            try:
                hosts.run(client, name, command)
            except RuntimeError as error:
                raise UsageError(
                    f"{error}; does this machine's packet filter drop frames between containers? see docs/lab.md"
                ) from error


def down(client: DockerClient, lab: Lab, *, with_images: bool = False) -> None:
    """Take a lab down: all its containers, those that tests and molecule added included, volumes, network, keys.

    Args:
        client: the Docker engine.
        lab: the lab.
        with_images: remove the images of all labs, too. Without them the next lab takes minutes.
    """
    with keys.locked(lab, "up"):
        lab.description.unlink(missing_ok=True)
        ours = {"label": f"{NAME_LABEL}={lab.name}"}
        containers = client.containers.list(all=True, filters=ours, ignore_removed=True)
        with ThreadPoolExecutor() as pool:
            for removed in [pool.submit(hosts.remove_host, client, lab, one.name) for one in containers]:
                removed.result()
        for volume in client.volumes.list(filters=ours):
            volume.remove()
        network.remove(client, lab)
        keys.remove(lab)
        if with_images:
            tags = [tag for image in client.images.list(filters={"label": LABEL}) for tag in image.tags]
            images.remove(client, tags)
