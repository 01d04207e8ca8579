"""What other runs have on this machine: processes by their mark, containers by their label. Changes nothing."""

from __future__ import annotations

import json
import os
import urllib.parse
from typing import Any

from ansible_collections.disagg.e2e.plugins.module_utils import containers, docker_engine, gpu, node_state

# Of the files in /dev/shm so many are told.
_MANY_FILES = 20
# The query of https://docs.docker.com/reference/api/engine/ that lists containers with a label, also ended ones.
_QUERY = "/containers/json?" + urllib.parse.urlencode(
    {"all": "true", "filters": json.dumps({"label": [containers.RUN_LABEL]})}
)


def run_containers(path: str = "/var/run/docker.sock") -> list[dict[str, Any]]:
    """List the containers of all runs: id, name, state, since (seconds since the epoch), run, node, service.

    Args:
        path: the engine's socket. Empty where there is no engine, or none that this user may ask: doctor tells that by
            itself.
    """
    try:
        found = docker_engine.get(path, _QUERY)
    except docker_engine.EngineError:
        return []
    return [
        {
            "id": entry["Id"],
            "name": entry["Names"][0].lstrip("/"),
            "state": entry["State"],
            "since": float(entry["Created"]),
            "run": entry["Labels"][containers.RUN_LABEL],
            "node": entry["Labels"].get(containers.NODE_LABEL),
            "service": entry["Labels"].get(containers.SERVICE_LABEL),
        }
        for entry in found
    ]


def others(own: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """List the runs that have something here, but for one's own.

    Args:
        own: the run that asks.
        found: the containers of all runs, as run_containers tells them.

    Returns:
        for each run: run, nodes, services, processes (how many), containers (their names) and since (the oldest
        process's or container's start, in seconds since the epoch; None if nobody knows).
    """
    runs: dict[str, dict[str, Any]] = {}
    starts: dict[str, list[float]] = {}

    def note(entry: dict[str, Any], since: float | None) -> dict[str, Any]:
        empty: dict[str, Any] = {"nodes": set(), "services": set(), "processes": 0, "containers": []}
        of_run = runs.setdefault(entry["run"], empty)
        of_run["nodes"].update({entry["node"]} - {None, ""})
        of_run["services"].update({entry["service"]} - {None, ""})
        starts.setdefault(entry["run"], []).extend([] if since is None else [since])
        return of_run

    for process in node_state.run_processes():
        if process["run"] != own:
            note(process, process["started_at"])["processes"] += 1
    for container in found:
        if container["run"] != own:
            note(container, container["since"])["containers"].append(container["name"])
    return [
        {
            "run": run,
            "nodes": sorted(entry["nodes"]),
            "services": sorted(entry["services"]),
            "processes": entry["processes"],
            "containers": sorted(entry["containers"]),
            "since": min(starts[run], default=None),
        }
        for run, entry in sorted(runs.items())
    ]


def owner(pid: int, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Describe a process as node_state.process does; its run is its container's where it has no mark of its own.

    Args:
        pid: the process.
        found: the containers of all runs, as run_containers tells them.
    """
    process = node_state.process(pid)
    if process is None or process["run"] is not None:
        return process
    container = gpu.container_of(pid)
    for entry in found:
        if entry["id"] == container:
            return {**process, "run": entry["run"], "node": entry["node"], "service": entry["service"]}
    return process


def shared_memory() -> dict[str, Any]:
    """Return how full /dev/shm is: free_bytes, total_bytes and files (see node_state.shared_files), largest first."""
    try:
        room = os.statvfs("/dev/shm")  # noqa: S108 (looked at)
    except OSError:
        return {"free_bytes": None, "total_bytes": None, "files": []}
    return {
        "free_bytes": room.f_bavail * room.f_frsize,
        "total_bytes": room.f_blocks * room.f_frsize,
        "files": sorted(node_state.shared_files(), key=lambda entry: -entry["bytes"])[:_MANY_FILES],
    }


def gpus(found: list[dict[str, Any]]) -> dict[str, Any]:
    """List the NVIDIA GPUs with the processes that compute on them.

    Args:
        found: the containers of all runs, as run_containers tells them.

    Returns:
        problem (empty, or why nothing is known and what to do), driver (version) and gpus (see gpu.inventory), each
        with its processes as owner describes them; None among them is one that has gone.
    """
    try:
        there = gpu.inventory()
    except gpu.GpuError as error:
        return {"problem": str(error), "driver": None, "gpus": []}
    for one in there["gpus"]:
        one["processes"] = [owner(entry["pid"], found) for entry in one["processes"]]
    return {"problem": "", "driver": there["driver"], "gpus": there["gpus"]}
