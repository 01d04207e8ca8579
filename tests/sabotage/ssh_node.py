"""A logical node that is reached over ssh, as a host is, and can be cut off: an sshd of its own on its address."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.sabotage.harness import wait_for

_SSHD = "/usr/sbin/sshd"
_PORT = 22022


class SshNode:
    """An sshd for one address, with keys made for it.

    Args:
        address: where it listens.
        folder: takes keys and configuration.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known").write_text(f"[{address}]:{_PORT} {' '.join(key)}\n")
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd goes without rights; Debian's service makes it
        self.start()

    @property
    def variables(self) -> dict[str, object]:
        """Variables of the inventory for a host that is this node."""
        options = [f"IdentityFile={self._folder / 'user'}", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes"]
        options += [f"UserKnownHostsFile={self._folder / 'known'}", "ControlMaster=auto", "ControlPersist=60s"]
        # Short: the path of a socket has to fit into 107 bytes (unix(7)).
        options += [f"ControlPath=/tmp/de-{os.getpid()}-%C"]
        options += ["ConnectTimeout=5", "ServerAliveInterval=2", "ServerAliveCountMax=2"]
        return {
            "ansible_host": self._address,
            "ansible_connection": "ssh",
            "ansible_port": _PORT,
            "ansible_user": "root",
            "ansible_ssh_common_args": " ".join(f"-o {option}" for option in options),
            # It shares this machine with others, so its lease is its own.
            "disagg_lease_name": self._address,
        }

    def start(self) -> None:
        """Have it answer."""
        command = [_SSHD, "-D", "-e", "-f", "/dev/null", "-p", str(_PORT), "-h", str(self._folder / "host")]
        options = [f"ListenAddress={self._address}", f"AuthorizedKeysFile={self._folder / 'authorized'}"]
        options += [
            "StrictModes=no",
            "PidFile=none",
            "UsePAM=no",
            "PermitRootLogin=prohibit-password",
            "MaxStartups=100",
        ]
        for option in options:
            command += ["-o", option]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers, f"sshd answers on {self._address}:{_PORT}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self._address, _PORT), timeout=1) as connection:
                return connection.recv(4).startswith(b"SSH")
        except OSError:
            return False

    def drop(self) -> None:
        """Have it refuse connections, and close those that there are."""
        for pid in self._tree():
            os.kill(pid, signal.SIGKILL)
        self._over()

    def freeze(self) -> None:
        """Have it say nothing any more: connections stay open, and time out."""
        for pid in self._tree():
            os.kill(pid, signal.SIGSTOP)

    def stop(self) -> None:
        """End it for good."""
        self.drop()

    def _over(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _tree(self) -> list[int]:
        """Return the sshd and the processes of its connections, but not what they have left running on their own."""
        if self._process is None:
            return []
        found, children = [self._process.pid], self._children()
        for pid in found:
            found += [child for child, (parent, name) in children.items() if parent == pid and name.startswith("sshd")]
        return found

    @staticmethod
    def _children() -> dict[int, tuple[int, str]]:
        """Return parent and name of every process (proc(5), stat fields 2 and 4)."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, rest = entry.read_text().rpartition(")")
            except OSError:
                continue
            found[int(entry.parent.name)] = (int(rest.split()[1]), head.partition("(")[2])
        return found
