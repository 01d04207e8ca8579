"""What runs in containers of this machine: asked of its Docker engine, by the docker program.

Standard library only. The harness sends this file to a node's Python, as it does node_state.py. Containers are made by
Ansible's own modules (role service); what is asked here, often and by many, are questions that the program answers.

A container belongs to a run by its labels. Its processes carry the run's mark in their environment as well, so all that
node_state.py tells of a run's processes holds for them too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

RUN_LABEL = "disagg-e2e.run"
NODE_LABEL = "disagg-e2e.node"
SERVICE_LABEL = "disagg-e2e.service"
LOG_LABEL = "disagg-e2e.log"
DEPLOYMENT_LABEL = "disagg-e2e.deployment"
LEASE_LABEL = "disagg-e2e.lease"

_ASK_SECONDS = 30.0
_LOG_SECONDS = 120.0


class DockerError(Exception):
    """The Docker engine did not do what it was asked; the text says why."""


def docker(*arguments: str, seconds: float = _ASK_SECONDS) -> str:
    """Run the docker program.

    Args:
        arguments: what stands after its name.
        seconds: how long it may take.

    Returns:
        what it wrote to standard output.

    Raises:
        DockerError: there is no docker program, no engine, or the engine refuses.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockerError(f"docker {arguments[0]}: {error}") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise DockerError(f"docker {arguments[0]}: {words[-600:]}")
    return done.stdout


def run_containers(run: str | None = None, node: str | None = None) -> list[dict[str, Any]]:
    """List the containers of a run as `listed` does; none where there is no Docker engine that answers."""
    if shutil.which("docker") is None:
        return []
    try:
        return listed(run, node)
    except DockerError:
        return []


def mark(run_dir: Path) -> Path:
    """Return the file that says of a run's directory that containers were started for it."""
    return run_dir / "containers"


def listed(run: str | None = None, node: str | None = None) -> list[dict[str, Any]]:
    """List the containers of a run, running or not.

    Args:
        run: a run id; None lists those of every run.
        node: only those of this node (several logical nodes may share an engine).

    Returns:
        for each: id, name, run, node, service, deployment, log (where the run wants it), lease (the file of the one
        that it was started under), state (docker's word).

    Raises:
        DockerError: the engine does not answer, or there is none.
    """
    label = RUN_LABEL if run is None else f"{RUN_LABEL}={run}"
    told = docker("ps", "--all", "--no-trunc", "--filter", f"label={label}", "--format", "{{json .ID}}")
    ids = [json.loads(line) for line in told.splitlines() if line.strip()]
    found = json.loads(docker("inspect", "--type", "container", *ids)) if ids else []
    result = []
    for entry in found:
        labels = entry["Config"].get("Labels") or {}
        if node is None or labels.get(NODE_LABEL) == node:
            result.append(
                {
                    "id": entry["Id"],
                    "name": entry["Name"].lstrip("/"),
                    "run": labels.get(RUN_LABEL),
                    "node": labels.get(NODE_LABEL),
                    "service": labels.get(SERVICE_LABEL),
                    "deployment": labels.get(DEPLOYMENT_LABEL),
                    "log": labels.get(LOG_LABEL),
                    "lease": labels.get(LEASE_LABEL) or None,
                    "state": entry["State"]["Status"],
                }
            )
    return result


def status(name: str) -> dict[str, Any] | None:
    """Return a container's state as `docker inspect` has it (Status, Pid, ExitCode …); None if there is none.

    Raises:
        DockerError: the engine does not answer.
    """
    try:
        return dict(json.loads(docker("inspect", "--type", "container", "--format", "{{json .State}}", name)))
    except DockerError as error:
        if "No such" in str(error):
            return None
        raise


def log_lines(name: str, lines: int = 20, width: int = 400) -> list[str]:
    """Return the last lines of a container's output that say something, each cut to `width` characters."""
    command = ["docker", "logs", "--tail", str(lines * 3), name]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # the program keeps the two apart, a log is one
            text=True,
            errors="replace",
            check=False,
            timeout=_ASK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"(no log: {error})"]
    return [line[:width] for line in done.stdout.splitlines() if line.strip()][-lines:]


def remove(found: list[dict[str, Any]], run_dir: str, seconds: float) -> None:
    """End containers, keep what they said in the run's directory, and remove them with their volumes.

    What does not end by itself within its own grace is killed. What even that leaves is the caller's to look for.

    Args:
        found: the containers, as run_containers tells them.
        run_dir: the run's directory on this node. A log that is wanted elsewhere is not written.
        seconds: how long ending them may take.
    """
    names = [entry["name"] for entry in found]
    if not names:
        return
    # What a fault has paused cannot end by itself, and would use up all the time that it is given for that.
    paused = [entry["name"] for entry in found if entry["state"] == "paused"]
    with suppress(DockerError):
        if paused:
            docker("unpause", *paused)
    with suppress(DockerError):
        docker("stop", *names, seconds=seconds)
    root = Path(run_dir)
    for entry in found:
        # No lost log is worth a failed clean-up.
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            log = Path(entry["log"] or root / "logs" / f"{entry['name']}.log")
            log.relative_to(root)
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with log.open("wb") as stream:
                command = ["docker", "logs", entry["name"]]
                subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False, timeout=_LOG_SECONDS)
    with suppress(DockerError):
        docker("rm", "--force", "--volumes", *names)
