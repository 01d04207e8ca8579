#!/usr/bin/python
"""Stop all that a run started on a node, keep its logs, and say what is left."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_clean
short_description: Stop all that a run started on a node and keep its logs
description:
  - Asks the run's supervisord to stop all services at once and to end; then ends whatever else carries the run's
    id in its environment, or as a container in its labels. Nothing that does not carry it is touched.
  - Packs the logs after the services have stopped, so that their last lines are in them.
  - Does the same for a run whose supervisord was killed, and does nothing for a run that is gone.
options:
  run:
    description: The run id. C(all) means every run that has a directory or a process of this node here.
    type: str
    required: true
  state_dir:
    description: Directory that holds the runs' directories (O(state_dir)/<run>/<node>).
    type: path
    required: true
  node:
    description: The node's name in the inventory.
    type: str
    required: true
  archive:
    description: Where to write the logs as a gzipped tar archive; empty writes none.
    type: path
    default: ""
  stop_timeout:
    description: Seconds for the services to end by themselves.
    type: int
    default: 30
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Take down what was brought up by hand
  disagg.e2e.run_clean: {run: manual, state_dir: /tmp/disagg, node: prefill}
"""

RETURN = r"""
runs:
  description: The runs that were found.
  returned: always
  type: list
  elements: str
killed:
  description: Processes that outlived the request to end and were killed.
  returned: always
  type: list
  elements: dict
left:
  description: Processes that are still there, with C(pid) and C(command); a container is told in C(command).
  returned: always
  type: list
  elements: dict
archive:
  description: The archive, empty when there were no logs.
  returned: always
  type: str
"""

import http.client
import os
import shutil
import signal
import tarfile
import xmlrpc.client
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import containers, node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import Supervisor

_KILL_SECONDS = 5.0
# What the Docker engine may take itself to end containers, beyond what they are given.
_DOCKER_SECONDS = 30.0


def _stop(run: str, node: str, run_dir: Path, seconds: float) -> list[dict[str, Any]]:
    """End all processes of a run on a node; returns the services' processes that had to be killed."""
    supervisor = Supervisor(str(run_dir), timeout=seconds)
    if supervisor.is_up():
        # What does not end so is ended by signal below, whyever it does not.
        with suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
            supervisor.rpc.stopAllProcesses(True)  # noqa: FBT003 (XML-RPC has no names: wait)
    # The supervisord first, and without asking: with its services stopped it has nothing to put in order, its own
    # shutdown takes a second, and it must not see children die below and start to act on it.
    survivors = sorted(node_state.run_processes(run, node), key=lambda found: found["service"] != "supervisord")
    for survivor in survivors:
        try:
            os.kill(survivor["pid"], signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    return [survivor for survivor in survivors if survivor["service"] != "supervisord"]


def _stop_containers(run: str, node: str, run_dir: Path, seconds: float) -> list[dict[str, Any]]:
    """End all containers of a run on a node; returns those that stay."""
    try:
        containers.remove(containers.listed(run, node), str(run_dir), seconds)
    except containers.DockerError as error:
        if not containers.mark(run_dir).exists():
            return []  # the run never had any
        return [{"pid": None, "service": None, "command": f"containers, which cannot be looked for: {error}"}]
    return [
        {"pid": None, "service": entry["service"], "command": f"container {entry['name']}, {entry['state']}"}
        for entry in containers.run_containers(run, node)
    ]


def _runs(parameters: dict[str, Any]) -> list[str]:
    if parameters["run"] != "all":
        return [parameters["run"]]
    state, node = Path(parameters["state_dir"]), parameters["node"]
    by_directory = {path.parent.name for path in state.glob(f"*/{node}")}
    by_process = {found["run"] for found in node_state.run_processes(node=node) if found["node"] == node}
    return sorted(by_directory | by_process | {entry["run"] for entry in containers.run_containers(node=node)})


def _is_here(run: str, node: str, run_dir: Path) -> bool:
    """Tell whether a run has anything on this node."""
    return bool(run_dir.exists() or node_state.run_processes(run, node) or containers.run_containers(run, node))


def _pack(run_dir: Path, archive: str) -> str:
    if not archive or not (run_dir / "logs").is_dir():
        return ""
    Path(archive).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(run_dir / "logs", arcname=".")
    return archive


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "state_dir": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "archive": {"type": "path", "default": ""},
            "stop_timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    state, node = Path(parameters["state_dir"]), parameters["node"]
    runs = [run for run in _runs(parameters) if _is_here(run, node, state / run / node)]
    result: dict[str, Any] = {"changed": bool(runs), "runs": runs, "killed": [], "left": [], "archive": ""}
    if module.check_mode or not runs:
        module.exit_json(**result)
    for run in runs:
        run_dir = state / run / node
        shared = node_state.shared_memory(found["pid"] for found in node_state.run_processes(run, node))
        shared |= Supervisor(str(run_dir)).noted_shared_memory()
        left = _stop_containers(run, node, run_dir, parameters["stop_timeout"] + _DOCKER_SECONDS)
        result["killed"] += _stop(run, node, run_dir, parameters["stop_timeout"])
        left += node_state.wait_gone(run, _KILL_SECONDS, node)
        result["left"] += left
        node_state.remove_shared_memory(shared)
        result["archive"] = _pack(run_dir, parameters["archive"]) or result["archive"]
        if not left:
            shutil.rmtree(run_dir, ignore_errors=True)
            if run_dir.parent.is_dir() and not any(run_dir.parent.iterdir()):
                run_dir.parent.rmdir()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
