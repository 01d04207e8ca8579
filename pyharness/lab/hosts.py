"""The hosts of a lab: made, removed, and broken on purpose.

Tests and molecule make further ones of the same image with `start_host` and `remove_host`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import ipaddress
import json
import re
import subprocess
import tarfile
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from pyharness.errors import UsageError
from pyharness.lab import host_image, images, keys
from pyharness.lab.model import ENVIRONMENTS_AT, NAME_LABEL, RECIPE_LABEL, Lab

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

# Seconds until a host has to let ssh in. It takes three on a quiet machine with two cores.
_READY_SECONDS = 90.0
# User and group id of the first user that Debian makes.
_USER_ID = 1000
# The chain of packet filter rules that cuts a host off.
_CHAIN = "DISAGG-LAB-CUT"


def start_host(client: DockerClient, lab: Lab, name: str, address: str) -> bool:
    """Have a host: start it, or leave it alone if it is up and made of the same.

    Args:
        client: the Docker engine.
        lab: whose network it is in. Image, network and ssh key have to be there.
        name: its container's name, which is its host name, too.
        address: its address.

    Returns:
        whether it was made or started. It lets ssh in then.

    Raises:
        UsageError: it cannot be made, or does not let ssh in.
    """
    _check(lab, name, address)
    image = images.present(client, f"{host_image.NAME}:latest")
    if image is None:
        raise UsageError(f"{name}: the image of a host is not there; make it with: python -m pyharness lab up")
    flags = host_image.probe(client, image, lab.state_dir)
    arguments = flags.arguments()
    arguments["volumes"] += [f"{name}-docker:/var/lib/docker", f"{lab.environments}:{ENVIRONMENTS_AT}:ro"]
    recipe = _recipe(image, address, asdict(flags), arguments["volumes"], keys.have(lab))
    found = get(client, name)
    if found is not None and found.labels.get(NAME_LABEL) != lab.name:
        raise UsageError(f"there is a container {name} that is none of the lab's; remove it: docker rm -f {name}")
    if found is not None and found.labels.get(RECIPE_LABEL) == recipe and keys.knows(lab, address):
        if found.status == "running" and lets_in(lab, address) is None:
            restore(client, name)  # what an interrupted test may have left
            return False
        found.restart() if found.status == "running" else found.start()
    else:
        remove_host(client, lab, name)
        lab.environments.mkdir(parents=True, exist_ok=True)
        _create(client, lab, name, address, arguments | {"image": image, "labels": lab.labels | {RECIPE_LABEL: recipe}})
    _wait(client, lab, name, address)
    return True


def _check(lab: Lab, name: str, address: str) -> None:
    """Refuse a name or an address that no host of the lab can have."""
    try:
        known = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise UsageError(f"{name}: {address} is no IPv4 address") from error
    if known not in lab.network:
        raise UsageError(f"{name}: {address} is not in the lab's network {lab.network}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise UsageError(f"{name}: a host's name has lower-case letters, digits and dashes, at most 63")


def _recipe(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _create(client: DockerClient, lab: Lab, name: str, address: str, arguments: dict[str, Any]) -> None:
    private, public = keys.new_host_key()
    client.volumes.create(f"{name}-docker", labels=lab.labels)
    try:
        container = client.containers.create(
            name=name,
            hostname=name,
            network=lab.name,
            networking_config={lab.name: client.api.create_endpoint_config(ipv4_address=address)},
            **arguments,
        )
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            images.add_file(tar, "etc/ssh/ssh_host_ed25519_key", private, mode=0o600)
            images.add_file(tar, "etc/ssh/ssh_host_ed25519_key.pub", f"{public}\n".encode())
            # systemd would take the machine's own, and all hosts would be the same machine.
            images.add_file(tar, "etc/machine-id", f"{uuid.uuid4().hex}\n".encode(), mode=0o444)
            allowed = keys.have(lab).encode()
            images.add_file(tar, "home/disagg/.ssh/authorized_keys", allowed, mode=0o600, owner=_USER_ID)
        container.put_archive("/", archive.getvalue())
        keys.record(lab, address, public)
        container.start()
    except APIError as error:
        remove_host(client, lab, name)
        raise UsageError(f"{name}: the Docker engine refuses this host: {error.explanation}") from error


def _wait(client: DockerClient, lab: Lab, name: str, address: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    container = client.containers.get(name)
    if not host_image.booted(container, _READY_SECONDS):
        raise UsageError(f"{name}: systemd did not come up within {_READY_SECONDS:.0f} s; look: docker logs {name}")
    while (refusal := lets_in(lab, address)) is not None:
        if time.monotonic() > deadline:
            raise UsageError(f"{name} ({address}): no ssh within {_READY_SECONDS:.0f} s; ssh says: {refusal}")
        time.sleep(0.1)


def lets_in(lab: Lab, address: str) -> str | None:
    """Return why a host does not let ssh in; None if it does.

    Args:
        lab: the host's lab.
        address: the host's address.
    """
    command = [*keys.ssh_command(lab, address), "sudo -n true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return "no answer within 20 s"
    words = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (words[-1] if words else f"exit code {done.returncode}")


def get(client: DockerClient, name: str) -> Container | None:
    """Return a host's container; None if there is none."""
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def remove_host(client: DockerClient, lab: Lab, name: str) -> None:
    """Remove a host with its volume, and forget its key. One that is gone is none to remove.

    Args:
        client: the Docker engine.
        lab: the host's lab; another's is left alone.
        name: its container's name.
    """
    container = get(client, name)
    if container is not None:
        if container.labels.get(NAME_LABEL) != lab.name:
            raise UsageError(f"container {name} is none of the lab's; it is left alone")
        address = address_of(lab, container)
        if address:
            keys.hang_up(address)
            keys.record(lab, address, None)
        container.remove(force=True, v=True)
    with contextlib.suppress(NotFound):
        client.volumes.get(f"{name}-docker").remove()


def address_of(lab: Lab, container: Container) -> str:
    """Return a container's fixed address on the lab's network; empty if it has none."""
    endpoint = container.attrs["NetworkSettings"]["Networks"].get(lab.name) or {}
    return str((endpoint.get("IPAMConfig") or {}).get("IPv4Address") or endpoint.get("IPAddress") or "")


def stop(client: DockerClient, name: str) -> None:
    """Stop a host at once, as a power cut does."""
    client.containers.get(name).kill()


def start(client: DockerClient, lab: Lab, name: str) -> None:
    """Start a stopped host, and wait until it lets ssh in."""
    container = client.containers.get(name)
    container.start()
    container.reload()
    _wait(client, lab, name, address_of(lab, container))


def run(client: DockerClient, name: str, command: str) -> str:
    """Run a shell command as root in a host, past ssh, and return what it wrote.

    Raises:
        RuntimeError: it failed.
    """
    code, output = client.containers.get(name).exec_run(["/bin/sh", "-ec", command])
    text = str(output.decode(errors="replace"))
    if code != 0:
        raise RuntimeError(f"{name}: {command}: exit code {code}: {text.strip()}")
    return text


def cut(client: DockerClient, lab: Lab, name: str) -> None:
    """Cut a host off the lab's other hosts and its registry, in both directions. This machine still reaches it."""
    restore(client, name)
    run(
        client,
        name,
        f"""
        iptables -w -N {_CHAIN}
        iptables -w -A {_CHAIN} -s {lab.gateway} -j RETURN
        iptables -w -A {_CHAIN} -d {lab.gateway} -j RETURN
        iptables -w -A {_CHAIN} -i lo -j RETURN
        iptables -w -A {_CHAIN} -s {lab.network} -d {lab.network} -j DROP
        iptables -w -I INPUT -j {_CHAIN}
        iptables -w -I OUTPUT ! -o lo -j {_CHAIN}
        iptables -w -I FORWARD -j {_CHAIN}
        """,
    )


def restore(client: DockerClient, name: str) -> None:
    """Undo `cut`; where nothing is cut, nothing changes."""
    run(
        client,
        name,
        f"""
        for from in "INPUT" "OUTPUT ! -o lo" "FORWARD"; do
          iptables -w -D $from -j {_CHAIN} 2>/dev/null || true
        done
        iptables -w -F {_CHAIN} 2>/dev/null && iptables -w -X {_CHAIN} || true
        """,
    )


def stop_sshd(client: DockerClient, name: str) -> None:
    """End sshd in a host, its open sessions included. `start_sshd` undoes it."""
    run(client, name, "systemctl stop ssh.service; pkill -x sshd || true")


def start_sshd(client: DockerClient, lab: Lab, name: str) -> None:
    """Start sshd in a host, and wait until it lets in."""
    run(client, name, "systemctl start ssh.service")
    container = client.containers.get(name)
    _wait(client, lab, name, address_of(lab, container))
