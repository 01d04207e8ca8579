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
    description:
      - The run id. The engine that it had up alone (its id with C(-single) behind it) goes with it.
      - C(all) means every run that has a directory or a process of this node here, but for what was started under
        another lease than O(lease). That is of another machine's node, or of another logical node of the same name.
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
    description:
      - Where to write the logs as a gzipped tar archive; empty writes none.
      - Where the disk has no room for it, it is written to C(/dev/shm), with 1 MiB of each file; see RV(archive).
    type: path
    default: ""
  log_cap_bytes:
    description: Bytes that are kept of each log, from its begin and its end. A line says what was left out between.
    type: int
    default: 67108864
  names:
    description: Further names by which the run knew this node, where it ran with another inventory.
    type: list
    elements: str
    default: []
  lease:
    description: File of the node's lease. It is given back when nothing of the run is left here. Empty is none.
    type: path
    default: ""
  quarantine:
    description: File that marks the node as not clean. It is written when something of the run cannot be ended.
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
  description: What is still there, processes with C(pid) and C(command); containers and shared memory in C(command).
  returned: always
  type: list
  elements: dict
released:
  description: Whether the lease was given back, or a note that the run had left something was taken from it.
  returned: always
  type: bool
quarantined:
  description: Whether the node is in quarantine for what is left.
  returned: always
  type: bool
archive:
  description: The archive, which may lie elsewhere than O(archive) says. Empty when there were no logs.
  returned: always
  type: str
"""

import http.client
import json
import os
import shutil
import signal
import time
import xmlrpc.client
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import (
    containers,
    lease,
    log_archive,
    node_state,
    port_holder,
    quarantine,
)
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import Supervisor

_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.02
# Behind the id of a run: its engine that answered alone.
_SINGLE = "-single"
# What the Docker engine may take itself to end containers, beyond what they are given.
_DOCKER_SECONDS = 30.0


def _ask_to_end(supervisor: Supervisor, seconds: float) -> None:
    """Have a supervisord ask its services to end, kill what does not, and wait until they have.

    To wait for itself, supervisord looks once a second (supervisor/options.py: select with a timeout of 1).
    """
    pids = [entry["pid"] for entry in supervisor.rpc.getAllProcessInfo() if entry["pid"]]
    supervisor.rpc.stopAllProcesses(False)  # noqa: FBT003 (XML-RPC has no names: wait)
    deadline = time.monotonic() + seconds
    while any(node_state.is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)  # the poll interval; what is left at the deadline is killed and told by the caller


def _stop(run: str, node: str, run_dir: Path, seconds: float) -> list[dict[str, Any]]:
    """End all processes of a run on a node; returns the services' processes that had to be killed."""
    supervisor = Supervisor(str(run_dir), timeout=seconds)
    if supervisor.is_up():
        # What does not end so is ended by signal below, whyever it does not.
        with suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
            _ask_to_end(supervisor, seconds)
    # The supervisord first, and without asking: with its services stopped it has nothing to put in order, its own
    # shutdown takes a second, and it must not see children die below and start to act on it.
    survivors = sorted(node_state.run_processes(run, node), key=lambda found: found["service"] != "supervisord")
    for survivor in survivors:
        try:
            os.kill(survivor["pid"], signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    return [survivor for survivor in survivors if survivor["service"] not in ("supervisord", port_holder.SERVICE)]


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
        # What the run had up to compare with goes with it.
        return [f"{parameters['run']}{_SINGLE}", parameters["run"]]
    state, node = Path(parameters["state_dir"]), parameters["node"]
    by_directory = {path.parent.name for path in state.glob(f"*/{node}")}
    by_process = {found["run"] for found in node_state.run_processes(node=node) if found["node"] == node}
    found = by_directory | by_process | {entry["run"] for entry in containers.run_containers(node=node)}
    return sorted(run for run in found if not _is_elsewhere(run, parameters))


def _is_elsewhere(run: str, parameters: dict[str, Any]) -> bool:
    """Tell whether what a run has under this node's name was started under the leases of others only."""
    node, own = parameters["node"], parameters["lease"]
    marks = {
        node_state.environment(found["pid"]).get(node_state.LEASE_VARIABLE)
        for found in node_state.run_processes(run, node)
    }
    marks |= {entry["lease"] for entry in containers.run_containers(run, node)}
    for record in Supervisor(str(Path(parameters["state_dir"]) / run / node)).programs.glob("*.json"):
        with suppress(OSError, ValueError, KeyError):
            marks.add(json.loads(record.read_text())["environment"].get(node_state.LEASE_VARIABLE))
    marks -= {None, ""}
    return bool(own and marks and own not in marks)


def _is_here(run: str, node: str, run_dir: Path) -> bool:
    """Tell whether a run has anything on this node."""
    return bool(run_dir.exists() or node_state.run_processes(run, node) or containers.run_containers(run, node))


def _clean(run: str, node: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take down what a run has on a node. Returns killed and left, as the module does, and run_dir."""
    run_dir = Path(parameters["state_dir"]) / run / node
    there = node_state.run_processes(run, node)
    shared = node_state.shared_memory(found["pid"] for found in there)
    # What a fault has stopped cannot end by itself, and would use up all the time that it is given for that.
    for found in there:
        if found["state"] == "T":
            with suppress(ProcessLookupError, PermissionError):
                os.kill(found["pid"], signal.SIGCONT)
    shared |= Supervisor(str(run_dir)).noted_shared_memory()
    left = _stop_containers(run, node, run_dir, parameters["stop_timeout"] + _DOCKER_SECONDS)
    killed = _stop(run, node, run_dir, parameters["stop_timeout"])
    left += node_state.wait_gone(run, _KILL_SECONDS, node)
    node_state.remove_shared_memory(shared)
    # What somebody else has mapped is not the run's alone, such as what nodes on one machine share.
    used = node_state.shared_memory(found["pid"] for found in node_state.processes()) if shared else set()
    left += [
        {"pid": None, "service": None, "command": f"shared memory {path}, which cannot be removed"}
        for path in sorted(shared - used)
        if os.path.exists(path)
    ]
    return {"killed": killed, "left": left, "run_dir": run_dir}


def _remove(run_dir: Path) -> None:
    shutil.rmtree(run_dir, ignore_errors=True)
    if run_dir.parent.is_dir() and not any(run_dir.parent.iterdir()):
        run_dir.parent.rmdir()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "state_dir": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "archive": {"type": "path", "default": ""},
            "log_cap_bytes": {"type": "int", "default": 64 * 1024 * 1024},
            "names": {"type": "list", "elements": "str", "default": []},
            "lease": {"type": "path", "default": ""},
            "quarantine": {"type": "path", "default": ""},
            "stop_timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    state, node = Path(parameters["state_dir"]), parameters["node"]
    names = [node, *(name for name in parameters["names"] if name != node)]
    known = _runs(parameters)
    here = [(run, name) for run in known for name in names if _is_here(run, name, state / run / name)]
    runs = list(dict.fromkeys(run for run, _name in here))
    nothing: dict[str, Any] = {"killed": [], "left": [], "archive": "", "released": False, "quarantined": False}
    result = {"changed": bool(runs), "runs": runs, **nothing}
    if module.check_mode:
        module.exit_json(**result)
    cleaned = [_clean(run, name, parameters) for run, name in here]
    for done in cleaned:
        result["killed"] += done["killed"]
        result["left"] += done["left"]
    folders = [str(done["run_dir"] / "logs") for done in cleaned]
    try:
        result["archive"] = log_archive.pack(folders, parameters["archive"], parameters["log_cap_bytes"])
    except OSError as error:  # that the node is clean counts for more
        module.warn(f"the logs of {node} cannot be packed: {error.strerror}: {error.filename}")
    for done in cleaned:
        if not done["left"]:
            _remove(done["run_dir"])
    try:
        if result["left"] and parameters["quarantine"]:
            reason = f"teardown could not end {result['left'][0]['command']}"
            quarantine.write(parameters["quarantine"], node, reason, " ".join(runs))
            result["quarantined"] = True
        if not result["left"] and parameters["lease"]:
            result["released"] = True in {lease.release(parameters["lease"], run, names) for run in known}
    except (OSError, lease.LeaseError) as error:
        module.fail_json(msg=f"the run is taken down, and that cannot be noted: {error}", **result)
    result["changed"] = bool(runs) or result["released"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
