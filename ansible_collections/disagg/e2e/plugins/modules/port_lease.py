#!/usr/bin/python
"""Lease ports of a node for a run, and hold them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_lease
short_description: Lease TCP ports of a node for a run, one for each name, and hold them to its end
description:
  - Finds ports that nobody has on any address of the node, and has a small process of the run hold them. No other run
    and no other program gets them, also not while a service of the run that listens on one of them is away.
  - A service is let in right before its start, by C(disagg.e2e.service_process) or by O(open).
  - The process carries the marks of its run and ends with it (C(disagg.e2e.run_clean)).
  - Asked again, it returns the same ports.
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
  lease_file:
    description: File of the node's lease that the run has; empty where it has none.
    type: str
    default: ""
  names:
    description: What the ports are for, such as C(worker-1.system).
    type: list
    elements: str
    default: []
  renew:
    description: Those of them that were lost to another program and are to be other ports from now on.
    type: list
    elements: str
    default: []
  open:
    description: Those of them that a service is started on now.
    type: list
    elements: str
    default: []
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Lease ports for a frontend
  disagg.e2e.port_lease:
    run: manual
    run_dir: /tmp/disagg/manual/prefill
    node: prefill
    names: [frontend.http]
  register: leased
"""

RETURN = r"""
ports:
  description: The port of each name that the run has leased on this node.
  returned: success
  type: dict
lost:
  description: By name the ports that were leased before and lost.
  returned: success
  type: dict
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import node_state, port_holder


def _environment(parameters: dict[str, Any]) -> dict[str, str]:
    leased = {node_state.LEASE_VARIABLE: parameters["lease_file"]} if parameters["lease_file"] else {}
    return leased | {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        node_state.RUN_VARIABLE: parameters["run"],
        node_state.NODE_VARIABLE: parameters["node"],
        node_state.SERVICE_VARIABLE: port_holder.SERVICE,
    }


def main() -> None:
    """Run the module."""
    names: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "run_dir": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "lease_file": {"type": "str", "default": ""},
            "names": names,
            "renew": names,
            "open": names,
        },
        supports_check_mode=True,
    )
    parameters = module.params
    run_dir = parameters["run_dir"]
    try:
        before = port_holder.ask(run_dir)
    except port_holder.HolderError:
        before = {"ports": {}, "opened": [], "lost": {}}
    if module.check_mode:
        missing = set(parameters["names"]) - set(before["ports"])
        module.exit_json(changed=bool(missing or parameters["renew"]), ports=before["ports"], lost=before["lost"])
    try:
        # From a zip file, as Ansible sends modules, the loader knows the text; there is no file.
        loader: Any = port_holder.__loader__
        source = loader.get_source(port_holder.__name__)
        source = source.decode() if isinstance(source, bytes) else source  # Ansible's own loader has it in bytes
        port_holder.start(run_dir, _environment(parameters), source)
        asked = {"hold": parameters["names"], "renew": parameters["renew"], "open": parameters["open"]}
        told = port_holder.ask(run_dir, **asked)
    except (port_holder.HolderError, OSError) as error:
        module.fail_json(msg=f"{parameters['node']}: no ports for run {parameters['run']}: {error}")
    module.exit_json(changed=told["ports"] != before["ports"], ports=told["ports"], lost=told["lost"])


if __name__ == "__main__":
    main()
