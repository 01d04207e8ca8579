"""Apply one role to a host of the lab as a playbook would, and read what it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyharness import paths
from pyharness.lab import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from pyharness.lab.model import Lab

CONNECTION = paths.PROJECT / "molecule" / "common" / "inventory"
_SECONDS = 300


class Applied(NamedTuple):
    """What became of it."""

    succeeded: bool
    message: str
    """The last failure's message."""
    output: str
    """All that Ansible wrote, as verbosely as it can."""


class Host(NamedTuple):
    """A host of the lab that roles are applied to."""

    name: str
    address: str
    folder: Path
    """For inventories and variables."""
    connection: dict[str, Any] = {}  # noqa: RUF012 (a default that nobody changes)
    """Variables of the inventory, where it is not reached by ssh."""

    def apply(self, role: str, **variables: Any) -> Applied:
        """Apply a role of the collection with these variables."""
        given = self.folder / "variables.json"
        given.touch(mode=0o600)
        given.write_text(json.dumps(variables))
        options = ["--module-name", "ansible.builtin.include_role", "--args", f"name=disagg.e2e.{role}"]
        return self._run(["ansible", "all", *options, "--extra-vars", f"@{given}"])

    def play(self, playbook: Path) -> Applied:
        """Run a playbook."""
        return self._run(["ansible-playbook", str(playbook)])

    def shell(self, command: str) -> str:
        """Run a command on the host as root, which has to succeed. Returns what it printed."""
        done = subprocess.run(
            ["docker", "exec", self.name, "bash", "-c", command],
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _run(self, command: list[str]) -> Applied:
        inventory = self.folder / "hosts.yml"
        inventory.write_text(
            json.dumps({"all": {"hosts": {self.name: {"ansible_host": self.address} | self.connection}}})
        )
        program = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [str(program), *command[1:], "-vvv", "--inventory", str(CONNECTION), "--inventory", str(inventory)],
            cwd=paths.PROJECT,
            env=os.environ | {"ANSIBLE_CONFIG": str(paths.PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        output = done.stdout + done.stderr
        messages = re.findall(r'^ {4}"msg": (".*"),?$', output, re.MULTILINE)
        failures = [text for text in map(json.loads, messages) if text.startswith(f"{self.name}: ")]
        return Applied(done.returncode == 0, failures[-1] if failures else "", output)


@contextlib.contextmanager
def started(client: DockerClient, lab: Lab, number: int, folder: Path) -> Iterator[Host]:
    """Have a fresh host of the lab, for as long as the context lasts.

    Args:
        client: the Docker engine of this machine.
        lab: the host's lab, which is up.
        number: the last part of its address.
        folder: for inventories and variables.
    """
    name, address = f"{lab.name}-test-{number}", str(lab.network[number])
    hosts.remove_host(client, lab, name)  # of an interrupted session
    hosts.start_host(client, lab, name, address)
    try:
        yield Host(name, address, folder)
    finally:
        hosts.remove_host(client, lab, name)
