"""The image below all others: Debian, pulled where that works, else made from Debian's archive."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from pyharness.errors import UsageError
from pyharness.lab import images, machine
from pyharness.lab.model import LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

PUBLIC = f"debian:{machine.SUITE}"
MADE = f"disagg-lab-debian:{machine.SUITE}"
NAME = "disagg-lab-base"
_FILES = Path(__file__).parent / "images"
# Seconds without a word from the registry, after which the image is made here. Making it takes about a minute.
_PULL_SILENCE = 15
_DEBOOTSTRAP_TIMEOUT = 900
# Each host pulls every byte of it.
_LEFT_OUT = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "var/log",
)


def have(client: DockerClient, tell: Callable[[str], None]) -> str:
    """Have the base image: Debian with this machine's package sources and certificates.

    Args:
        client: the Docker engine.
        tell: told what takes long.

    Returns:
        its id.

    Raises:
        UsageError: Debian can neither be pulled nor made here.
    """
    debian = images.present(client, MADE) or images.present(client, PUBLIC)
    if debian is None:
        debian = _pull(client) or _make(client, tell)
    recipe = images.Recipe(NAME, debian, (_FILES / "Dockerfile.base").read_text(), machine.image_files())
    if images.present(client, recipe.tag) is None:
        tell("base image: installing what all images have")
    return images.build(client, recipe)


def _pull(client: DockerClient) -> str | None:
    impatient = docker.from_env(timeout=_PULL_SILENCE)
    try:
        events = impatient.api.pull("debian", tag=machine.SUITE, stream=True, decode=True)
        if images.last_error(events):
            return None
    except (DockerException, RequestException):
        return None
    finally:
        impatient.close()
    return images.present(client, PUBLIC)


def _make(client: DockerClient, tell: Callable[[str], None]) -> str:
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise UsageError(
            f"{PUBLIC} cannot be pulled, and debootstrap, which makes it, is missing; install it"
            " (Debian, Ubuntu: apt-get install debootstrap)"
        )
    if os.geteuid() != 0:
        raise UsageError(f"{PUBLIC} cannot be pulled, and making it with debootstrap takes root; run this once as root")
    tell(f"base image: {PUBLIC} cannot be pulled, making it with debootstrap (about a minute)")
    with tempfile.TemporaryDirectory(prefix="disagg-lab-") as folder:
        root = Path(folder) / "root"
        _debootstrap(program, root)
        archive = Path(folder) / "root.tar"
        command = ["tar", "--create", "--numeric-owner", *(f"--exclude=./{path}/*" for path in _LEFT_OUT)]
        subprocess.run([*command, f"--file={archive}", f"--directory={root}", "."], check=True)
        repository, _, tag = MADE.partition(":")
        client.api.import_image(str(archive), repository=repository, tag=tag, changes=[f"LABEL {LABEL}=1"])
    return str(client.images.get(MADE).id)


def _debootstrap(program: str, root: Path) -> None:
    sources = [source for source in machine.debian_sources() if source.suite == machine.SUITE]
    command = [program, "--variant=minbase", "--include=ca-certificates", machine.SUITE, str(root)]
    # Without a mirror debootstrap takes Debian's own.
    command += [source.uri for source in sources[:1]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DEBOOTSTRAP_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"debootstrap did not end within {_DEBOOTSTRAP_TIMEOUT} s; is the mirror reachable?"
        ) from error
    if done.returncode != 0:
        tail = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise UsageError(f"debootstrap failed: {tail}; is the mirror in this machine's apt sources reachable?")
