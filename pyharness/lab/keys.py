"""The ssh key that hosts let in, and the hosts' own keys, so that strict checking stays on."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.lab.model import Lab


def _keygen() -> str:
    program = shutil.which("ssh-keygen")
    if program is None or shutil.which("ssh") is None:
        raise UsageError(
            "ssh and ssh-keygen are missing here; install them (Debian, Ubuntu: apt-get install openssh-client)"
        )
    return program


def _generate(file: Path, comment: str) -> None:
    command = [_keygen(), "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def locked(lab: Lab, what: str = "keys") -> Iterator[None]:
    """Hold a lock of a lab: two processes may bring it up, or make and remove hosts, at the same time.

    Args:
        lab: the lab.
        what: what is locked.
    """
    lab.state_dir.mkdir(parents=True, exist_ok=True)
    with (lab.state_dir / f"{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def have(lab: Lab) -> str:
    """Have the key that the hosts let in, and return its public half. It is made once per lab."""
    with locked(lab):
        lab.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        public = Path(f"{lab.key}.pub")
        if not lab.key.is_file() or not public.is_file():
            remove(lab)
            _generate(lab.key, lab.key_name)
        return public.read_text()


def new_host_key() -> tuple[bytes, str]:
    """Make a host's own key and return its private half and its public half."""
    with tempfile.TemporaryDirectory(prefix="disagg-lab-") as folder:
        file = Path(folder) / "key"
        _generate(file, "lab")
        return file.read_bytes(), " ".join(Path(f"{file}.pub").read_text().split()[:2])


def record(lab: Lab, address: str, public: str | None) -> None:
    """Write down which key a host has, in place of what was known of its address.

    Args:
        lab: the host's lab.
        address: the host's address.
        public: its public key; None forgets the host.
    """
    with locked(lab):
        lines = lab.known_hosts.read_text().splitlines() if lab.known_hosts.is_file() else []
        lines = [line for line in lines if line.split(" ", 1)[0] != address]
        lines += [f"{address} {public}"] if public else []
        fresh = lab.known_hosts.with_name(f"{lab.known_hosts.name}.{os.getpid()}")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(lab.known_hosts)


def knows(lab: Lab, address: str) -> bool:
    """Tell whether a host's key is written down."""
    return lab.known_hosts.is_file() and any(
        line.startswith(f"{address} ") for line in lab.known_hosts.read_text().splitlines()
    )


def remove(lab: Lab) -> None:
    """Remove the lab's key and what is known of its hosts."""
    for file in (lab.key, Path(f"{lab.key}.pub"), lab.known_hosts):
        file.unlink(missing_ok=True)


def hang_up(address: str) -> None:
    """End the connection that Ansible keeps open to a host, as the inventories name it.

    A host that is made anew at the same address would be asked over the old connection, and never answer.
    """
    socket = "ControlPath=~/.ssh/disagg-e2e-%C"
    subprocess.run(
        ["ssh", "-F", "none", "-o", socket, "-O", "exit", f"disagg@{address}"], capture_output=True, check=False
    )


def ssh_command(lab: Lab, address: str) -> list[str]:
    """Return the start of a command line that runs a command on a host, with strict checking of its key."""
    options = ["BatchMode=yes", "IdentitiesOnly=yes", f"IdentityFile={lab.key}", "StrictHostKeyChecking=yes"]
    options += [f"UserKnownHostsFile={lab.known_hosts}", "GlobalKnownHostsFile=/dev/null", "ConnectTimeout=5"]
    return ["ssh", "-F", "none", *(word for option in options for word in ("-o", option)), f"disagg@{address}"]
