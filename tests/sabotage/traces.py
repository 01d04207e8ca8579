"""What a run could leave behind on a site, all of it: processes, listening ports, files, shared memory, leases."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.disagg.e2e.plugins.module_utils import lease, node_state
from pyharness import unfinished

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

FOREIGN_RUN = "20200101-000000-f0e1"
_SLEEP = "import signal; signal.pause()"


@dataclass
class Ground:
    """A site with folders of its own, so that whatever a run leaves in them is seen.

    Attributes:
        site: the site.
        state: the state directory of its nodes.
        temporary: what TMPDIR is for the harness and all that it starts.
    """

    site: Site
    state: Path
    temporary: Path
    _before: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, site: Site) -> Ground:
        """Give a site folders of its own."""
        # Short: the path of a supervisord's socket has to fit into 107 bytes (unix(7)).
        state, temporary = Path(tempfile.mkdtemp(prefix="de-")), site.results.parent / "temporary"
        temporary.mkdir()
        (site.inventory / "group_vars" / "all").mkdir()
        (site.inventory / "group_vars" / "all.yml").rename(site.inventory / "group_vars" / "all" / "main.yml")
        (site.inventory / "group_vars" / "all" / "own.yml").write_text(f"disagg_state_dir: {state}\n")
        ground = cls(site, state, temporary)
        ground._before = {entry["path"] for entry in node_state.shared_files()}
        return ground

    @property
    def environment(self) -> dict[str, str]:
        """What a harness on this ground is started with."""
        return {**os.environ, "TMPDIR": str(self.temporary)}

    def processes(self) -> list[str]:
        """Return all that works on this site, or was started by what does: harness, Ansible, services."""
        spared = node_state.own_line()
        # The forks of Ansible bear the names of its folders, services their inventory's addresses and directories.
        words = [str(self.site.inventory), str(self.state), str(self.temporary), self.site.prefill, self.site.decode]
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) in spared:
                continue
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                living = ") Z " not in (entry / "stat").read_text()
            except OSError:
                continue
            if living and any(word.encode() in told for word in words):
                found.append(
                    f"{entry.name} {node_state.environment(int(entry.name)).get('DISAGG_E2E_RUN')} {told[:200]!r}"
                )
        return found

    def ports(self) -> list[str]:
        """Return what listens on the site's addresses."""
        addresses = {self.site.prefill, self.site.decode}
        return [
            f"{entry['address']}:{entry['port']}" for entry in node_state.tcp_sockets() if entry["address"] in addresses
        ]

    def files(self) -> list[str]:
        """Return the files that a run has made and that are no results."""
        made = [path for folder in (self.state, self.temporary) for path in folder.rglob("*")]
        shared = {entry["path"] for entry in node_state.shared_files() if not entry["mapped"]} - self._before
        own = [path for path in shared if "mooncake" in path]
        return sorted([str(path) for path in made if not path.is_dir() or not any(path.iterdir())] + own)

    def leases(self) -> list[str]:
        """Return the leases of the site that are not free."""
        entries = [
            lease.read(lease.path(lease.DEFAULT_DIR, address)) for address in (self.site.prefill, self.site.decode)
        ]
        return [str(entry) for entry in entries if lease.state(entry) != "free"]

    def remembered(self) -> list[str]:
        """Return the runs that this machine takes for not torn down."""
        return [entry.run for entry in unfinished.remembered(self.site.inventory)]

    def left(self) -> dict[str, list[str]]:
        """Return all that is left, by kind; what nothing is left of is not in it."""
        found = {
            "processes": self.processes(),
            "ports": self.ports(),
            "files": self.files(),
            "leases": self.leases(),
            "remembered": self.remembered(),
        }
        return {kind: entries for kind, entries in found.items() if entries}


class Bystanders:
    """What is not the run's: a process of another run, one of nobody's, and another run's directory on the nodes.

    Args:
        ground: where they are.
    """

    def __init__(self, ground: Ground) -> None:
        foreign = {node_state.RUN_VARIABLE: FOREIGN_RUN, node_state.NODE_VARIABLE: "prefill"}
        self._processes = [
            subprocess.Popen([sys.executable, "-c", _SLEEP], env={**os.environ, **extra}) for extra in ({}, foreign)
        ]
        self._files = [
            ground.state / FOREIGN_RUN / "prefill" / "logs" / "log",
            ground.state / "note",
            ground.temporary / "note",
            Path("/dev/shm") / f"disagg-test-{os.getpid()}-{ground.site.prefill}",  # noqa: S108 (the place itself is meant)
        ]
        for path in self._files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("theirs")

    def harmed(self) -> list[str]:
        """Return which of them have been touched."""
        dead = [f"process {process.pid}" for process in self._processes if process.poll() is not None]
        return dead + [str(path) for path in self._files if not path.is_file() or path.read_text() != "theirs"]

    def remove(self) -> None:
        """End and remove them."""
        for process in self._processes:
            process.kill()
            process.wait()
        for path in self._files:
            path.unlink(missing_ok=True)

    def without(self, left: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return what is left that is not theirs."""
        own = {str(path) for path in self._files}
        return {
            kind: rest for kind, entries in left.items() if (rest := [entry for entry in entries if entry not in own])
        }
