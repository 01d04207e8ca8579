"""Take evidence on nodes, through testinfra.

What is asked is answered by files of the collection (node_state.py, traffic.py, containers.py), sent to the node's own
Python on standard input: nothing is installed there, and Ansible's modules and the harness cannot disagree.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from testinfra.utils.ansible_runner import AnsibleRunner

from pyharness import ahead, redaction
from pyharness.errors import UsageError
from pyharness.verification import probe_script
from pyharness.verification.successors import Successors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from testinfra.host import Host

    from pyharness.deployment import Service

# What of a Mooncake wheel a process loads: its native libraries, or one of its programs, which is the process itself.
MOONCAKE_LIBRARIES = r"/mooncake[^/]*/(?:[^/]+\.so|mooncake_(?:master|client)\b)"

_PROBES_THAT_COUNT = 2


class NodeError(Exception):
    """A node could not be asked.

    Args:
        node: which.
        reason: why.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"{node} cannot be asked: {reason}")
        self.node, self.reason = node, reason


def _reason(error: OSError | RuntimeError) -> str:
    """Say why a command could not be run. testinfra's own text repeats the whole command."""
    result = error.args[0] if error.args else None
    words = getattr(result, "stderr", None) or str(error)
    return " ".join(words.split())[-300:]


def _why_not(told: str) -> str:
    """Return why Ansible does not read an inventory: its error, and what the plugin says that is for such files.

    Args:
        told: testinfra's assertion that the program ended well, which has its output as Python writes bytes.
    """
    text = told.replace("\\n", "\n").replace("\\'", "'")
    error = re.search(r"\[ERROR\]: (.+)", text)
    # Every plugin refuses what is none of its own: of a file of YAML only one has something to say.
    plugin = "auto" if "unknown plugin" in text else "yaml"
    cause = re.search(rf"Failed to parse inventory with '{plugin}' plugin: (.+)", text) if ".y" in text else None
    origin = re.search(r"Origin: (/\S+:\d+:\d+)", text) if cause else None
    parts = [error[1] if error else text, cause[1] if cause else "", f"(at {origin[1]})" if origin else ""]
    return " ".join(" ".join(filter(None, parts)).split())[:500]


class Nodes:
    """The nodes of an inventory, asked side by side.

    Args:
        inventory: the inventory's path.
    """

    def __init__(self, inventory: Path) -> None:
        self._inventory = str(inventory)
        # By a service's process id: its processes as the first two probes saw them. What is in both is there to stay.
        self._trees: dict[int, list[set[int]]] = {}
        # By node: since when it does not answer, on the monotonic clock.
        self._silent: dict[str, float] = {}
        # Nodes that are this machine itself, known once the inventory has been read.
        self._here: frozenset[str] = frozenset()
        self._successors = Successors()

    @cached_property
    def _runner(self) -> AnsibleRunner:
        # Not get_runner, which reads a path once and for all: the next run of this process has to see what is there
        # then.
        runner = AnsibleRunner(self._inventory)
        known = ahead.inventory(self._inventory)
        if known is not None:
            runner.inventory = known
        return runner

    def load(self) -> None:
        """Read the inventory.

        Raises:
            UsageError: Ansible cannot read it.
        """
        try:
            redaction.learn_variables(self._runner.inventory)
            self._here = frozenset(node for node in self._runner.get_hosts("all") if self._is_here(node))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(f"-i {self._inventory}: {_why_not(str(error))}") from error

    def names(self, groups: Iterable[str]) -> list[str]:
        """Return the nodes of some groups, each once, in the order of the groups.

        Raises:
            UsageError: a group is missing or empty.
        """
        result: list[str] = []
        for group in groups:
            try:
                members = self._runner.get_hosts(group)
            except RuntimeError:  # not one host in it
                members = []
            if not members:
                raise UsageError(f"-i {self._inventory}: group {group} has no host; add one to it")
            result += [member for member in members if member not in result]
        return result

    def _is_here(self, node: str) -> bool:
        has = self._runner.get_variables(node)
        return has.get("ansible_connection") == "local" and not has.get("ansible_become")

    def machines(self, names: Iterable[str]) -> list[list[str]]:
        """Return nodes together with those that are the same machine, as far as that is known before asking any.

        Args:
            names: the nodes.
        """
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault("" if name in self._here else name, []).append(name)
        return list(found.values())

    def variable(self, node: str, name: str) -> Any:
        """Return a node's variable as the inventory has it, not templated; None if it has none."""
        return self._runner.get_variables(node).get(name)

    def platform(self, groups: Iterable[str]) -> str | None:
        """Return the inventory's word for what engines run on; None where it is templated.

        Raises:
            UsageError: a group is missing or empty.
        """
        platform = self.variable(self.names(groups)[0], "disagg_platform")
        return platform if platform in ("cpu", "cuda", "simulator") else None

    def host(self, name: str) -> Host:
        """Return testinfra's host of that name."""
        return self._runner.get_host(name)

    def probe(
        self,
        services: Iterable[Service],
        *,
        nodes: Iterable[str] = (),
        libraries: str = "",
        traffic: bool = False,
        files: Mapping[str, Mapping[str, int]] | None = None,
        run: str = "",
        reach: Mapping[str, list[tuple[str, int]]] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Ask all nodes at once.

        Args:
            services: what to look at, each on its own node.
            nodes: further nodes to ask.
            libraries: report the loaded files whose path matches this expression.
            traffic: report TCP connections of the services, and RDMA ports.
            files: by node, paths whose SHA-256 digest is wanted (None where a file cannot be read), each with the
                process that sees them there.
            run: report all processes and containers of this run, and what is in shared memory.
            reach: by node, addresses and ports to knock at from there.

        Returns:
            by node: services (by name: process, pids, listeners, libraries, connections), rdma, files,
            run_processes, run_containers, shared_memory (see node_state.shared_files), up_since (when its first process
            started, in seconds since the epoch), reached (as asked in reach: whether the other machine answered).

        Raises:
            NodeError: a node could not be asked; the text says which and why.
        """
        asked: dict[str, dict[str, Any]] = {name: {} for name in (*nodes, *(files or {}), *(reach or {}))}
        wanted = list(services)
        for service in wanted:
            entry = {"pid": service.pid, "address": service.address, "port": service.port}
            asked.setdefault(service.node, {})[service.name] = entry

        def question(node: str) -> dict[str, Any]:
            return {
                "services": asked[node],
                "libraries": libraries,
                "traffic": traffic,
                "run": run,
                "files": dict((files or {}).get(node, {})),
                "reach": (reach or {}).get(node, []),
            }

        def ask(machine: list[str]) -> dict[str, Any]:
            return self.run_python(machine[0], probe_script.of({node: question(node) for node in machine}))

        machines = self.machines(asked)
        answers: dict[str, dict[str, Any]] = {}
        with ThreadPoolExecutor(max(1, len(machines))) as pool:
            for answer in pool.map(ask, machines):
                answers |= answer
        answers = {node: answers[node] for node in asked}
        for service in wanted:
            trees = self._trees.setdefault(service.pid, [])
            if len(trees) < _PROBES_THAT_COUNT:
                trees.append(set(answers[service.node]["services"][service.name]["pids"]))
        return answers

    def run_python(self, node: str, script: str) -> dict[str, Any]:
        """Run a script in the node's own Python, sent on standard input. Returns the JSON object that it prints.

        Raises:
            NodeError: the node could not be asked, or the script failed.
        """
        try:
            done = self.host(node).run(f"python3 - <<'END_OF_PROBE'\n{script}\nEND_OF_PROBE")
        except (OSError, RuntimeError) as error:
            raise NodeError(node, _reason(error)) from error
        if done.rc != 0:
            reason = done.stderr.strip().splitlines() or [f"exit status {done.rc}"]
            raise NodeError(node, reason[-1])
        return dict(json.loads(done.stdout))

    def ended(self, services: Iterable[Service]) -> list[Service]:
        """Return those services of whose processes one has ended. Cheap enough to ask every second.

        An engine is several processes, and its first one may outlive by far the one that does the work.
        """
        current = [service for service in map(self.current, services) if service is not None]
        gone: set[int] = set()
        for machine in self.machines(dict.fromkeys(service.node for service in current)):
            there = [service for service in current if service.node in machine]
            script = "; ".join(self._alive(service) for service in there)
            try:
                done = self.host(machine[0]).run(script)
            except (OSError, RuntimeError):
                self._silent.setdefault(machine[0], time.monotonic())
                continue  # a node that cannot be reached is the next probe's to report
            self._silent.pop(machine[0], None)
            gone.update(int(pid) for pid in done.stdout.split() if done.rc == 0)
        return [service for service in current if service.pid in gone]

    def _alive(self, service: Service) -> str:
        """Return a shell's line that prints a service's process id if one of its processes has ended."""
        trees = self._trees.get(service.pid, [])
        lasting = set.intersection(*trees) if len(trees) == _PROBES_THAT_COUNT else set()
        pids = " ".join(str(pid) for pid in sorted({service.pid} | lasting))
        # Gone, or a zombie whose parent does not care.
        alive = "grep -q '^State:[[:space:]]*[^ZX[:space:]]' /proc/$p/status 2>/dev/null"
        return f"for p in {pids}; do {alive} || {{ echo {service.pid}; break; }}; done"

    def replaced(self, service: Service, successor: Service | None) -> None:
        """Note that a service was ended on purpose, so that its end is no news (see `ended`).

        Args:
            service: as it was deployed, or as it was started again before.
            successor: what runs in its place, and is looked at from now on; None while nothing does; itself: it lives.
        """
        self._successors.note(service, successor)

    def current(self, service: Service) -> Service | None:
        """Return what runs in the place of a service by now, mostly itself; None where nothing does on purpose.

        It was ended, or it is one that was declared and not started.
        """
        return self._successors.of(service)

    def silent(self, seconds: float) -> str | None:
        """Return a node that has not answered `ended` for that long; None if there is none."""
        now = time.monotonic()
        return next((node for node, since in self._silent.items() if now - since >= seconds), None)

    def log_tail(self, service: Service, lines: int = 20) -> list[str]:
        """Return the last lines of a service's log; says so in their place when there is none."""
        try:
            if service.container:
                done = self.host(service.node).run(f"docker logs --tail {lines} %s 2>&1", service.container["name"])
            else:
                done = self.host(service.node).run(f"tail -n {lines} %s", service.log)
        except (OSError, RuntimeError) as error:
            return [f"(log cannot be read: {_reason(error)})"]
        return [line[:400] for line in done.stdout.splitlines()] or [f"(nothing in {service.log})"]
