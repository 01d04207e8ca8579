#!/usr/bin/python
"""Start or replace one service as a process under the run's supervisord."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_process
short_description: Run one service as a process under the supervisord of a run
description:
  - Starts the run's own supervisord on the node when it is not up, and one service under it.
  - A service that runs with the same specification is left alone; with another one it is stopped, with all its
    processes, before the new one starts. So deploying a second model replaces the first.
  - What is started is written down before, in C(journal-<node>.jsonl) beside the log.
  - It returns as soon as the process exists. Whether it serves is C(disagg.e2e.service_ready)'s question.
options:
  run:
    description: The run id. All processes carry it in their environment.
    type: str
    required: true
  run_dir:
    description: The run's directory on this node; supervisord's files go there.
    type: path
    required: true
  node:
    description: The node's name in the inventory.
    type: str
    required: true
  supervisord:
    description: Path of the supervisord program on the node.
    type: path
    required: true
  deployment:
    description: What it is a part of. Services of the run's other deployments on this node end before it starts.
    type: str
    default: ""
  name:
    description: The service's name, unique in the run on this node.
    type: str
    required: true
  command:
    description: Program and arguments.
    type: list
    elements: str
    required: true
  environment:
    description: Variables of the service besides C(PATH), C(HOME) and C(LANG). The caller's own are not inherited.
    type: dict
    default: {}
  log:
    description: File that takes the service's standard output and error.
    type: path
    required: true
  lease:
    description:
      - The lease on this node that the service is started under, its C(file) and the C(number) that the run was given.
      - If it has passed on, or was not renewed in time, nothing is started, and the message begins with C(lease lost).
    type: dict
    suboptions:
      file:
        description: The lease's file on this node.
        type: path
        required: true
      number:
        description: The number.
        type: int
        required: true
  stop_signal:
    description: Signal that asks the service to end.
    type: str
    default: TERM
  stop_grace:
    description: Seconds between that signal and SIGKILL.
    type: int
    default: 10
  leased:
    description: Ports that it listens on, by the names under which the run has leased them (C(disagg.e2e.port_lease)).
    type: dict
    default: {}
  start:
    description: Whether it is started. If not it is declared to supervisord only, and may be started there later.
    type: bool
    default: true
  record:
    description: What else is to be known of the service. It is returned with what this module knows.
    type: dict
    default: {}
  records:
    description: What this module has returned as RV(records) for the node's other services.
    type: list
    elements: dict
    default: []
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Start the router
  disagg.e2e.service_process:
    run: manual
    run_dir: /tmp/disagg/manual/prefill
    node: prefill
    supervisord: /usr/bin/supervisord
    name: router
    command: [python3, -m, sglang_router.launch_router]
    log: /tmp/disagg/manual/prefill/router.log
"""

RETURN = r"""
pid:
  description: Process id of the service's first process; 0 where it is not started.
  returned: success
  type: int
started_at:
  description: When the kernel started that process, in seconds since the epoch.
  returned: success
  type: float
record:
  description: O(record) with these two, and with O(name), O(command), O(environment) and O(log).
  returned: success
  type: dict
records:
  description: O(records) and this service's, which takes the place of an earlier one of its name.
  returned: success
  type: list
"""

import json
import os
import subprocess
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import lease, node_state, port_holder, service_journal
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import MAX_SOCKET_PATH, Supervisor

_START_SECONDS = 20.0


def _base_environment(parameters: dict[str, Any]) -> dict[str, str]:
    """Make the environment of a process of this run: nothing of the caller's but where programs and home are."""
    leased = {node_state.LEASE_VARIABLE: parameters["lease"]["file"]} if parameters["lease"] else {}
    return leased | {
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": str(Path("~").expanduser()),
        "LANG": "C.UTF-8",
        "TMPDIR": str(Path(parameters["run_dir"]) / "tmp"),  # engines leave files there; it goes with the run
        "SPT_NOENV": "1",  # setproctitle must not overwrite the environment: it marks whose the process is
        node_state.RUN_VARIABLE: parameters["run"],
        node_state.NODE_VARIABLE: parameters["node"],
    }


def _ensure_supervisord(module: AnsibleModule, supervisor: Supervisor) -> None:
    if supervisor.is_up():
        return
    if len(str(supervisor.socket)) > MAX_SOCKET_PATH:
        module.fail_json(
            msg=f"{supervisor.socket} is longer than the {MAX_SOCKET_PATH} bytes a Unix socket's path may have: "
            "set disagg_state_dir in the inventory to a shorter directory"
        )
    supervisor.write_config()
    environment = _base_environment(module.params)
    environment[node_state.SERVICE_VARIABLE] = "supervisord"
    command = [module.params["supervisord"], "-c", str(supervisor.config)]
    try:
        done = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=_START_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"supervisord did not start: {error}; is supervisor installed on this node?")
    if done.returncode != 0 or not supervisor.wait_up(_START_SECONDS):
        module.fail_json(msg=f"supervisord did not start: {done.stdout}{done.stderr}; see {supervisor.config}")


def _remove(supervisor: Supervisor, run: str, node: str, name: str) -> None:
    """Stop a service and make sure that nothing of it is left: no process, no shared memory."""
    known = supervisor.status(name)
    there = node_state.run_processes(run, node, name)
    shared = node_state.shared_memory(found["pid"] for found in there) | supervisor.noted_shared_memory(name)
    if known is None and not there and not shared:
        return  # the first time, which is the rule: to look for what is left of it would be to look three times more
    if known is not None:
        try:
            supervisor.rpc.stopProcess(name, True)  # noqa: FBT003 (XML-RPC has no names: wait)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise
        supervisor.rpc.removeProcessGroup(name)
    for left in node_state.run_processes(run, node, name):
        try:
            os.kill(left["pid"], 9)
        except ProcessLookupError:
            continue
    node_state.wait_gone(run, 5.0, node, name)
    node_state.remove_shared_memory(shared)


def _remove_earlier(supervisor: Supervisor, parameters: dict[str, Any]) -> None:
    """Stop the services of the run's earlier deployments: they would take cores and memory from this one."""
    for record in sorted(supervisor.programs.glob("*.json")):
        if json.loads(record.read_text()).get("deployment", "") != parameters["deployment"]:
            _remove(supervisor, parameters["run"], parameters["node"], record.stem)
            record.unlink()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "run_dir": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "deployment": {"type": "str", "default": ""},
            "lease": lease.ARGUMENT,
            "supervisord": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "environment": {"type": "dict", "default": {}},
            "log": {"type": "path", "required": True},
            "stop_signal": {"type": "str", "default": "TERM"},
            "stop_grace": {"type": "int", "default": 10},
            "leased": {"type": "dict", "default": {}},
            "start": {"type": "bool", "default": True},
            "record": {"type": "dict", "default": {}},
            "records": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    name = parameters["name"]
    supervisor = Supervisor(parameters["run_dir"])
    spec: dict[str, Any] = {
        "command": parameters["command"],
        "environment": {
            **_base_environment(parameters),
            **{key: str(value) for key, value in parameters["environment"].items()},
            node_state.SERVICE_VARIABLE: name,
        },
        "directory": parameters["run_dir"],
        "log": parameters["log"],
        "deployment": parameters["deployment"],
        "stop_signal": parameters["stop_signal"],
        "stop_grace": parameters["stop_grace"],
        "start": parameters["start"],
    }
    record = supervisor.programs / f"{name}.json"
    status = supervisor.status(name) if supervisor.is_up() else None
    same = record.exists() and json.loads(record.read_text()) == spec
    stays = status is not None and (status["statename"] == "RUNNING" or not parameters["start"])
    changed = not (stays and same)
    if changed and not module.check_mode:
        try:
            with lease.guarded(parameters["lease"]):
                _ensure_supervisord(module, supervisor)
            _remove_earlier(supervisor, parameters)
            _remove(supervisor, parameters["run"], parameters["node"], name)
            if parameters["start"]:
                service_journal.note(parameters["log"], parameters["node"], name, parameters["command"])
            Path(parameters["log"]).parent.mkdir(parents=True, exist_ok=True)
            supervisor.write_program(name, spec)
            record.touch(mode=0o600)
            record.write_text(json.dumps(spec))
            # Again, because ending what was there takes its time, in which the lease must not be kept from others.
            with lease.guarded(parameters["lease"]):
                if parameters["leased"]:
                    port_holder.ask(parameters["run_dir"], open=list(parameters["leased"]))
                supervisor.rpc.reloadConfig()
                supervisor.rpc.addProcessGroup(name)
        except (lease.LeaseLost, port_holder.HolderError, ValueError, OSError) as error:
            module.fail_json(msg=str(error))
        status = supervisor.status(name)
    # No process id: it ended within milliseconds. That is service_ready's to report, with the log.
    pid = int(status["pid"]) if status is not None else 0
    found = node_state.process(pid) if pid else None
    known = {"pid": pid, "started_at": found["started_at"] if found else time.time() * parameters["start"]}
    given = {key: parameters[key] for key in ("name", "command", "environment", "log")}
    own = {**parameters["record"], **given, **known}
    records = [entry for entry in parameters["records"] if entry["name"] != name] + [own]
    module.exit_json(changed=changed, record=own, records=records, **known)


if __name__ == "__main__":
    main()
