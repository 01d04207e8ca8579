"""What a lab consists of: names, addresses and places. No other module names one."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from pyharness import paths

# Every object of a lab carries the first label; the second says which lab, so that one lab never touches another's.
LABEL = "disagg-e2e.lab"
NAME_LABEL = "disagg-e2e.lab-name"
# A hash of what a container was made from: another value means that it has to be made anew.
RECIPE_LABEL = "disagg-e2e.lab-recipe"

# Where the controller's engine environments are in each host, and from there in the service containers.
ENVIRONMENTS_AT = "/opt/disagg/envs"


def home() -> Path:
    """Return the user's home directory as ssh sees it: from the password database, whatever HOME says."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


@dataclass(frozen=True)
class Lab:
    """One lab.

    Attributes:
        name: first part of the names of its containers, volumes and network.
        network: its private network. The default is within 198.18.0.0/15, which RFC 2544 sets aside for tests.
        registry_port: port on 127.0.0.1 where the registry is published for pushing.
        key_name: name of the ssh key in ~/.ssh.
        cache: directory of what is kept from run to run.
    """

    name: str = "disagg-lab"
    network: IPv4Network = field(default_factory=lambda: IPv4Network("198.18.77.0/24"))
    registry_port: int = 5077
    key_name: str = "disagg-e2e-lab"
    cache: Path = field(default_factory=paths.cache)

    @property
    def gateway(self) -> str:
        """This machine's address on the network."""
        return str(self.network[1])

    @property
    def registry_address(self) -> str:
        """The registry's address on the network."""
        return str(self.network[5])

    @property
    def registry_name(self) -> str:
        """The registry's container."""
        return f"{self.name}-registry"

    @property
    def registry(self) -> str:
        """The registry as the hosts reach it, HOST:PORT."""
        return f"{self.registry_address}:5000"

    @property
    def registry_here(self) -> str:
        """The registry as this machine's Docker engine reaches it, HOST:PORT. Loopback needs no TLS."""
        return f"127.0.0.1:{self.registry_port}"

    @property
    def hosts(self) -> dict[str, str]:
        """The two hosts: address by container name."""
        return {f"{self.name}-{number}": str(self.network[10 + number]) for number in (1, 2)}

    @property
    def labels(self) -> dict[str, str]:
        """The labels of each object of this lab."""
        return {LABEL: "1", NAME_LABEL: self.name}

    @property
    def key(self) -> Path:
        """The private key that the hosts let in."""
        return home() / ".ssh" / self.key_name

    @property
    def known_hosts(self) -> Path:
        """The hosts' own keys."""
        return home() / ".ssh" / f"{self.key_name}.known_hosts"

    @property
    def state_dir(self) -> Path:
        """Directory of what is known about this lab."""
        return self.cache / ("lab" if self.name == "disagg-lab" else self.name)

    @property
    def description(self) -> Path:
        """The file that inventories read."""
        return self.state_dir / "lab.yml"

    @property
    def environments(self) -> Path:
        """The engine environments on this machine."""
        return self.cache / "envs"
