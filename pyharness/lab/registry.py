"""A lab's registry: Debian's docker-registry in a container, for the hosts by its address, for pushing on loopback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from docker.errors import APIError

from pyharness.errors import UsageError
from pyharness.lab import hosts, images
from pyharness.lab.model import NAME_LABEL, RECIPE_LABEL

if TYPE_CHECKING:
    from docker import DockerClient

    from pyharness.lab.model import Lab

NAME = "disagg-lab-registry"
_FILES = Path(__file__).parent / "images"
_READY_SECONDS = 30.0
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


def have_image(client: DockerClient, base: str) -> str:
    """Have the registry's image, and return its id.

    Args:
        client: the Docker engine.
        base: id of the base image.
    """
    files = {"config.yml": (_FILES / "registry.yml").read_bytes()}
    return images.build(client, images.Recipe(NAME, base, (_FILES / "Dockerfile.registry").read_text(), files))


def have(client: DockerClient, lab: Lab, image: str) -> None:
    """Have the registry running and answering.

    Args:
        client: the Docker engine.
        lab: whose registry; its network has to be there.
        image: id of the registry's image.

    Raises:
        UsageError: it cannot be started, or does not answer.
    """
    recipe = f"{image}-{lab.registry_address}-{lab.registry_port}"
    container = hosts.get(client, lab.registry_name)
    if container is not None and container.labels.get(NAME_LABEL) != lab.name:
        raise UsageError(
            f"there is a container {lab.registry_name} that is none of the lab's;"
            f" remove it: docker rm -f {lab.registry_name}"
        )
    if container is not None and container.labels.get(RECIPE_LABEL) != recipe:
        container.remove(force=True, v=True)
        container = None
    try:
        if container is None:
            client.volumes.create(lab.registry_name, labels=lab.labels)
            container = client.containers.create(
                image,
                name=lab.registry_name,
                hostname=lab.registry_name,
                labels=lab.labels | {RECIPE_LABEL: recipe},
                network=lab.name,
                networking_config={
                    lab.name: client.api.create_endpoint_config(ipv4_address=lab.registry_address),
                },
                ports={"5000/tcp": ("127.0.0.1", lab.registry_port)},
                volumes=[f"{lab.registry_name}:/var/lib/docker-registry"],
            )
        container.start()
    except APIError as error:
        raise UsageError(f"{lab.registry_name}: the Docker engine refuses it: {error.explanation}") from error
    _wait(lab)


def _wait(lab: Lab) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not answers(lab):
        if time.monotonic() > deadline:
            raise UsageError(
                f"{lab.registry_name}: no answer on {lab.registry_here} within {_READY_SECONDS:.0f} s;"
                f" look: docker logs {lab.registry_name}"
            )
        time.sleep(0.1)


def answers(lab: Lab) -> bool:
    """Tell whether the registry answers."""
    try:
        return requests.get(f"http://{lab.registry_here}/v2/", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def serves(lab: Lab, repository: str, reference: str) -> str | None:
    """Return the digest of what the registry has under a tag or digest; None if it has nothing.

    Args:
        lab: whose registry.
        repository: such as disagg/service-simulator.
        reference: a tag, or sha256:….
    """
    url = f"http://{lab.registry_here}/v2/{repository}/manifests/{reference}"
    try:
        answer = requests.head(url, headers={"Accept": _MANIFEST}, timeout=10)
    except requests.RequestException:
        return None
    return answer.headers.get("Docker-Content-Digest") if answer.status_code == 200 else None


def push(client: DockerClient, lab: Lab, image: str, repository: str, tag: str) -> str:
    """Have an image in the registry.

    Args:
        client: the Docker engine.
        lab: whose registry.
        image: id of the image.
        repository: where in the registry.
        tag: its tag there.

    Returns:
        its digest, sha256:….

    Raises:
        UsageError: the registry did not take it.
    """
    if digest := serves(lab, repository, tag):
        return digest
    name = f"{lab.registry_here}/{repository}"
    client.images.get(image).tag(name, tag)
    error = images.last_error(client.api.push(name, tag=tag, stream=True, decode=True))
    images.remove(client, [f"{name}:{tag}"])  # the name only: the image has another one
    digest = serves(lab, repository, tag)
    if error or digest is None:
        raise UsageError(f"{name}:{tag} could not be pushed: {error or 'the registry does not serve it'}")
    return digest
