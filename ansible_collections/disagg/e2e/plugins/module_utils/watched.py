"""One service while it starts: has it ended, what did it say last, and when was it first seen ready.

The same questions for a process under the run's supervisord and for a container. Standard library only.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.disagg.e2e.plugins.module_utils import containers, node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import ENDED, Supervisor, log_tail

_LAST_WORDS = 20
_SEARCHED_LINES = 400


class Watched:
    """A service of a run on this node.

    Args:
        run_dir: the run's directory on this node.
        name: the service's name.
    """

    def __init__(self, run_dir: str, name: str) -> None:
        self.run_dir, self.name = Path(run_dir), name

    def ended(self) -> str | None:
        """Say how it ended; None while it lives."""
        raise NotImplementedError

    def lines(self, count: int) -> list[str]:
        """Return the last lines that it said."""
        raise NotImplementedError

    def last_words(self, asked: str) -> list[str]:
        """Return its last lines that are not about being asked whether it is ready, which may be hundreds.

        Args:
            asked: the path that it is asked.
        """
        lines = self.lines(_SEARCHED_LINES)
        return ([line for line in lines if f"{asked} " not in line] or lines)[-_LAST_WORDS:]

    def first_process(self) -> dict[str, Any]:
        """Return pid and started_at (seconds since the epoch) of its first process; pid 0 when there is none."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop watching."""

    def ready(self, now: float) -> dict[str, Any]:
        """Return first_process, when it was first seen ready, and its files below /dev/shm; asked again, the same.

        Args:
            now: when it was seen ready this time, in seconds since the epoch.
        """
        process = self.first_process()
        record = self.run_dir / "services" / f"{self.name}.ready"
        with suppress(OSError, ValueError, KeyError, TypeError):  # not seen ready before
            known = json.loads(record.read_text())
            if known["process"] == process:
                seen = {"ready_at": float(known["ready_at"]), "shared_memory": list(known["shared_memory"])}
                return {**process, **seen}
        # Its shared memory is noted for run_clean: of a process that was killed nobody could tell it any more.
        shared = sorted(node_state.shared_memory(node_state.tree(process["pid"]))) if process["pid"] else []
        with suppress(OSError):
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            record.write_text(json.dumps({"process": process, "ready_at": now, "shared_memory": shared}))
        return {**process, "ready_at": now, "shared_memory": shared}


class WatchedProcess(Watched):
    """A process under the run's supervisord.

    Args:
        run_dir: the run's directory on this node.
        name: the service's name.
        log: file that takes its output.
    """

    def __init__(self, run_dir: str, name: str, log: str) -> None:
        super().__init__(run_dir, name)
        self._supervisor, self._log = Supervisor(run_dir, timeout=5.0), log

    def ended(self) -> str | None:
        """Say how it ended; None while it lives."""
        try:
            status = self._supervisor.status(self.name)
        except (OSError, http.client.HTTPException):
            return "its supervisord is gone"
        if status is None:
            return "it was removed"
        if status["statename"] not in ENDED:
            return None
        # For a process that ran, supervisor puts its exit status there too, as "Bad exit code", and less of it.
        if status["spawnerr"] and status["statename"] != "EXITED":
            return str(status["spawnerr"])
        lived = max(0, status["stop"] - status["start"])
        how = "killed by a signal" if status["exitstatus"] < 0 else f"exit status {status['exitstatus']}"
        return f"{how}, {lived} s after its start"

    def lines(self, count: int) -> list[str]:
        """Return the last lines of its log."""
        return log_tail(self._log, count)

    def first_process(self) -> dict[str, Any]:
        """Return pid and start as the kernel has them."""
        try:
            status = self._supervisor.status(self.name)
        except (OSError, http.client.HTTPException):
            status = None
        return _process(status["pid"] if status else 0)


class WatchedContainer(Watched):
    """A container.

    Args:
        run_dir: the run's directory on this node.
        name: the service's name.
        container: the container's name.
    """

    def __init__(self, run_dir: str, name: str, container: str) -> None:
        super().__init__(run_dir, name)
        self._container = container
        self._waiting = self._wait()

    def _wait(self) -> subprocess.Popen[bytes]:
        """Start what ends when the container does. It costs nothing meanwhile; asking over and over would."""
        command = ["docker", "wait", self._container]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ended(self) -> str | None:
        """Say how it ended; None while it lives."""
        if self._waiting.poll() is None:
            return None
        try:
            state = containers.status(self._container)
        except containers.DockerError as error:
            return f"the Docker engine does not answer: {error}"
        if state is None:
            return "its container was removed"
        if state["Running"]:  # it was the waiting that ended: the engine was restarted under a live container
            self._waiting = self._wait()
            return None
        if state.get("OOMKilled"):
            return "killed by the kernel: out of memory"
        return state.get("Error") or f"exit status {state['ExitCode']}"

    def lines(self, count: int) -> list[str]:
        """Return the last lines of its output."""
        return containers.log_lines(self._container, count)

    def first_process(self) -> dict[str, Any]:
        """Return pid and start of the container's first process, as this node's kernel has them."""
        try:
            state = containers.status(self._container)
        except containers.DockerError:
            state = None
        return _process(state["Pid"] if state else 0)

    def close(self) -> None:
        """Stop waiting for the container's end."""
        self._waiting.kill()
        self._waiting.wait()


def _process(pid: int) -> dict[str, Any]:
    found = node_state.process(pid) if pid else None
    return {"pid": pid, "started_at": found["started_at"]} if found else {"pid": 0, "started_at": 0.0}


def watched(run_dir: str, service: dict[str, Any]) -> Watched:
    """Return what watches a service.

    Args:
        run_dir: the run's directory on this node.
        service: name, log, and container (empty for a process).
    """
    if service["container"]:
        return WatchedContainer(run_dir, service["name"], service["container"])
    return WatchedProcess(run_dir, service["name"], service["log"])
