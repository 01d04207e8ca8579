#!/usr/bin/python
"""End the containers of a run's earlier deployment on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_replaced
short_description: End the containers of a run's earlier deployment on a node, and keep what they said
description:
  - A run deploys one model after the other on the same ports. What belongs to another deployment of the same run is
    ended before the next starts; its logs stay in the run's directory.
  - Containers of other runs and of others are not touched.
options:
  run:
    description: The run id.
    type: str
    required: true
  run_dir:
    description: The run's directory on this node.
    type: path
    required: true
  node:
    description: The node's name in the inventory.
    type: str
    required: true
  deployment:
    description: The deployment that is to come, or is there already. Its containers stay.
    type: str
    required: true
  lease:
    description:
      - The lease on this node that containers are started under after this, its C(file) and the C(number) that the run
        was given.
      - If it has passed on, or was not renewed in time, this fails, and the message begins with C(lease lost).
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
  service:
    description: The service that is started next; it is written down in C(journal-<node>.jsonl) beside O(log).
    type: str
    default: ""
  log:
    description: That service's log. Needed with O(service).
    type: path
    default: ""
  command:
    description: What it runs, for the journal.
    type: list
    elements: str
    default: []
  stop_timeout:
    description: Seconds for the containers to end.
    type: int
    default: 90
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Make room for the next model
  disagg.e2e.deployment_replaced: {run: manual, run_dir: /tmp/disagg/manual/prefill, node: prefill, deployment: m2}
"""

RETURN = r"""
removed:
  description: Names of the containers that were ended.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import containers, lease, port_holder, service_journal


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "run_dir": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "deployment": {"type": "str", "required": True},
            "lease": lease.ARGUMENT,
            "service": {"type": "str", "default": ""},
            "log": {"type": "path", "default": ""},
            "command": {"type": "list", "elements": "str", "default": []},
            "leased": {"type": "dict", "default": {}},
            "stop_timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        with lease.guarded(parameters["lease"]):
            pass  # what comes after this module is started by others; what is ended here is the run's own
    except lease.LeaseLost as error:
        module.fail_json(msg=str(error))
    found = containers.run_containers(parameters["run"], parameters["node"])
    earlier = [entry for entry in found if entry["deployment"] != parameters["deployment"]]
    if not module.check_mode:
        mark = containers.mark(Path(parameters["run_dir"]))
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch()
        containers.remove(earlier, parameters["run_dir"], parameters["stop_timeout"])
        stay = {entry["id"] for entry in containers.run_containers(parameters["run"], parameters["node"])}
        left = [entry["name"] for entry in earlier if entry["id"] in stay]
        if left:
            module.fail_json(msg=f"these containers of the run's earlier deployment cannot be ended: {', '.join(left)}")
        if parameters["service"]:
            service_journal.note(parameters["log"], parameters["node"], parameters["service"], parameters["command"])
        if parameters["leased"]:
            try:
                port_holder.ask(parameters["run_dir"], open=list(parameters["leased"]))
            except port_holder.HolderError as error:
                module.fail_json(msg=str(error))
    module.exit_json(changed=bool(earlier), removed=[entry["name"] for entry in earlier])


if __name__ == "__main__":
    main()
