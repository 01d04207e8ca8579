"""The image of a host: systemd, sshd, sudo. And which flags its containers need on this machine."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError
from docker.types import Ulimit

from pyharness.errors import UsageError
from pyharness.lab import images
from pyharness.lab.model import LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient
    from docker.models.containers import Container

NAME = "disagg-lab-host"
USER = "disagg"
_FILES = Path(__file__).parent / "images"
_SSHD = b"""\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin no
UseDNS no
MaxStartups 100
MaxSessions 100
"""
# Seconds that systemd may take to come up in a probe. It takes two.
_PROBE_SECONDS = 30.0


# Docker mounts control groups read-only. They are the container's own (its namespace is private), so it may write them,
# and they go with it, those of containers inside of it included.
_WRITABLE = (
    "for mount in /sys/fs/cgroup /sys/fs/cgroup/*; do"
    " if mountpoint -q $mount; then mount -o remount,bind,rw $mount; fi; done; exec /lib/systemd/systemd"
)
# What a Docker engine inside needs: to write control groups, to mount, to filter packets.
_NEEDS = (
    "groups=/sys/fs/cgroup/memory; test -d $groups || groups=/sys/fs/cgroup;"
    " mkdir $groups/lab-probe && rmdir $groups/lab-probe && unshare --mount true && iptables -w -n -t nat -L >/dev/null"
)


@dataclass(frozen=True)
class Flags:
    """The flags of a host's container that differ from machine to machine.

    Attributes:
        name: what they are called.
        privileged: all capabilities and devices.
        shared_groups: see and write this machine's control groups.
        memlock: lift the limit on locked memory.
    """

    name: str
    privileged: bool = False
    shared_groups: bool = False
    memlock: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return them as the Docker SDK takes them."""
        arguments: dict[str, Any] = {
            "command": None if self.privileged or self.shared_groups else ["/bin/sh", "-c", _WRITABLE],
            "cgroupns": "host" if self.shared_groups else "private",
            # systemd would mount these itself, and programs are run from /run.
            "tmpfs": {"/run": "exec,mode=755", "/run/lock": ""},
            "shm_size": "1g",
            "volumes": ["/sys/fs/cgroup:/sys/fs/cgroup:rw"] if self.shared_groups else [],
        }
        if self.memlock:
            arguments["ulimits"] = [Ulimit(name="memlock", soft=-1, hard=-1)]
        if self.privileged:
            return arguments | {"privileged": True}
        # What a Docker engine inside needs: to mount, to make networks, and system calls that are filtered elsewhere.
        return arguments | {
            "cap_add": ["SYS_ADMIN", "NET_ADMIN"],
            "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        }


# From the least rights on. The last one is for systemd on cgroup v1 where a private namespace is refused.
_CANDIDATES = (
    Flags("unprivileged"),
    Flags("privileged", privileged=True),
    Flags("unprivileged, with this machine's control groups", shared_groups=True),
)


def have(client: DockerClient, base: str, tell: Callable[[str], None]) -> str:
    """Have the image of a host.

    Args:
        client: the Docker engine.
        base: id of the base image.
        tell: told what takes long.

    Returns:
        its id.
    """
    files = {
        "etc/sudoers.d/disagg": f"{USER} ALL=(ALL) NOPASSWD: ALL\n".encode(),
        "etc/ssh/sshd_config.d/lab.conf": _SSHD,
    }
    recipe = images.Recipe(NAME, base, (_FILES / "Dockerfile.host").read_text(), files)
    if images.present(client, recipe.tag) is None:
        tell("host image: installing systemd, sshd, sudo")
    image = images.build(client, recipe)
    client.images.get(image).tag(NAME, "latest")
    return image


def probe(client: DockerClient, image: str, kept_in: Path) -> Flags:
    """Find out with which flags systemd comes up in a container on this machine.

    Args:
        client: the Docker engine.
        image: id of the image of a host.
        kept_in: directory that keeps the answer for this engine and this image.

    Raises:
        UsageError: it comes up with none.
    """
    information = client.info()
    asked = {"engine": information["ID"], "version": information["ServerVersion"], "image": image}
    file = kept_in / "flags.json"
    if file.is_file():
        known = json.loads(file.read_text())
        if known.pop("asked") == asked:
            return Flags(**known)
    refusals = []
    for flags in _CANDIDATES:
        refusal = _try(client, image, flags)
        if refusal is None:
            chosen = _with_memlock(client, image, flags)
            kept_in.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(asdict(chosen) | {"asked": asked}, indent=2) + "\n")
            return chosen
        refusals.append(f"{flags.name}: {refusal}")
    raise UsageError(
        f"this machine's Docker engine runs no container with systemd: {'; '.join(refusals)};"
        " the lab needs an engine with root's rights, not a rootless one, with CAP_SYS_ADMIN and CAP_NET_ADMIN"
    )


def _with_memlock(client: DockerClient, image: str, flags: Flags) -> Flags:
    """Return the flags, with the limit on locked memory lifted where the engine may do that."""
    lifted = replace(flags, memlock=True)
    return flags if _try(client, image, lifted) else lifted


def _try(client: DockerClient, image: str, flags: Flags) -> str | None:
    """Return why a host does not work with these flags; None if it does."""
    container = None
    try:
        container = client.containers.create(image, labels={LABEL: "1"}, network_mode="none", **flags.arguments())
        container.start()
        if not booted(container, _PROBE_SECONDS):
            return f"systemd was {_state(container)}"
        code, output = container.exec_run(["/bin/sh", "-ec", _NEEDS])
        return output.decode(errors="replace").strip() if code != 0 else None
    except APIError as error:
        return str(error.explanation or error)
    finally:
        if container is not None:
            container.remove(force=True, v=True)


def booted(container: Container, seconds: float) -> bool:
    """Wait until systemd in a container has started everything, and tell whether it has.

    Args:
        container: the host.
        seconds: how long to wait.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _state(container) in ("running", "degraded"):
            return True
        container.reload()
        if container.status not in ("created", "running"):
            return False
        time.sleep(0.1)
    return False


def _state(container: Container) -> str:
    try:
        _, output = container.exec_run(["systemctl", "is-system-running"])
    except APIError as error:
        return str(error.explanation or error)
    words = output.decode(errors="replace").split()
    return words[-1] if words else "silent"
