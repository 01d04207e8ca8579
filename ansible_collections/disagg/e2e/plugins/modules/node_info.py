#!/usr/bin/python
"""Read what a node has and what runs on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Read what a node is and has, and what runs on it, without changing anything
description:
  - One call for all that a run, or a person, wants to know of a node beforehand. It judges nothing.
  - An action of the same name takes the node's clock beside it.
options:
  address:
    description: The node's address that services will listen on.
    type: str
    required: true
  ports:
    description: Ports that have to be free there.
    type: list
    elements: int
    default: []
  libraries:
    description: Shared libraries to look for, by file name.
    type: list
    elements: str
    default: []
  path:
    description: The state directory. Its file system's free space is told, and the quarantine that lies in it.
    type: str
    required: true
  disks:
    description: Further paths whose file system's free space counts; the nearest existing parent is taken.
    type: list
    elements: str
    default: []
  lease:
    description: File of the node's lease. Empty is none.
    type: path
    default: ""
  quarantine:
    description: File that puts the node into quarantine, besides C(quarantine.json) in O(path). Empty is no other.
    type: path
    default: ""
  run:
    description: The run that asks. What it has on the node itself is not told as another's.
    type: str
    default: ""
  gpus:
    description: Whether to ask nvidia-smi.
    type: bool
    default: false
  docker:
    description: Whether to ask the Docker engine about itself.
    type: bool
    default: false
  image:
    description: With O(docker) an image that the engine may have.
    type: str
    default: ""
  endpoints:
    description: Addresses of HTTP servers that have to be reached from here. C(pip) is the package index of pip here.
    type: list
    elements: str
    default: []
  name:
    description: The node's name. It is returned as it is, so that what is returned says whose it is.
    type: str
    default: ""
  wanted:
    description: What is asked of the node. It is returned as it is, for who compares the two.
    type: dict
    default: {}
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See who listens on the ports
  disagg.e2e.node_info: {address: 127.0.0.11, ports: [30001], path: /tmp}
"""

RETURN = r"""
system:
  description: Of the operating system id, version and name; kernel, architecture and python (of the modules).
  returned: success
  type: dict
cpus:
  description: CPUs that this process may use.
  returned: success
  type: int
listeners:
  description:
    - For each socket that listens on one of the ports its port, address and process. Of a process pid, command,
      started_at and, if it is of a run, run, node and service. None when this user may not see it.
  returned: success
  type: list
  elements: dict
missing_libraries:
  description: Those of O(libraries) that the dynamic linker does not find.
  returned: success
  type: list
  elements: str
free_bytes:
  description: Free space on the file system of O(path).
  returned: success
  type: int
disks:
  description: For O(path) and each of O(disks) exists, writable, free_bytes and total_bytes.
  returned: success
  type: dict
memory_available_bytes:
  description: Memory that can be had without swapping.
  returned: success
  type: int
memory_total_bytes:
  description: All memory.
  returned: success
  type: int
memlock:
  description: Memory that may be locked. soft_bytes, hard_bytes (none is unlimited), exempt (the limit does not bind).
  returned: success
  type: dict
gpus:
  description: With O(gpus) error, driver, devices and processes (each with its GPU's uuid and its process).
  returned: success
  type: dict
docker:
  description: With O(docker) installed, error, version, root and runtimes.
  returned: success
  type: dict
others:
  description: Other runs that have processes or containers here. run, nodes, services, processes, containers, since.
  returned: success
  type: list
  elements: dict
lease:
  description:
    - How O(lease) stands. state is free, held, kept (left up on purpose), expired or unknown; run has it, told says in
      words who, and problem why it is not known.
  returned: success
  type: dict
shared_memory:
  description:
    - Of /dev/shm free_bytes, total_bytes and files, the largest first; of each path, bytes, user_id, since and run,
      whose process has it mapped (none of any run's).
  returned: success
  type: dict
quarantine:
  description: What O(quarantine) or quarantine.json in O(path) says (node, reason, run, since); none without.
  returned: success
  type: dict
endpoints:
  description: For each of O(endpoints) url, status (of HTTP) and error.
  returned: success
  type: list
  elements: dict
clock:
  description: The node's clock against the controller's. offset_seconds, and uncertainty_seconds (how far off that is).
  returned: when the node has told its time
  type: dict
is_local_address:
  description: Whether the node can listen on O(address).
  returned: success
  type: bool
user_id:
  description: The user that Ansible's modules run as.
  returned: success
  type: int
hostname:
  description: The machine's own name.
  returned: success
  type: str
"""

import ctypes
import os
import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import lease, node_facts, node_state, occupants, quarantine


def _expanded(path: str) -> str:
    return os.path.expanduser(os.path.expandvars(path))


def _is_missing(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return True
    return False


def _is_local(address: str) -> bool:
    """Tell whether a socket can be bound to `address`."""
    try:
        family, kind, protocol, _name, target = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
    except OSError:
        return False
    return True


def _listeners(address: str, ports: list[int], containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = node_state.listeners(address, ports)
    for entry in found:
        if entry["process"] is not None:
            entry["process"] = occupants.owner(entry["process"]["pid"], containers) or entry["process"]
    return found


def _lease(file: str) -> dict[str, Any]:
    """Tell how a lease stands."""
    try:
        entry = lease.read(file) if file else None
    except lease.LeaseError as error:
        return {"state": "unknown", "run": None, "told": "", "problem": str(error)}
    state = lease.state(entry)
    told = lease.told(entry) if entry and entry["run"] else ""
    return {"state": state, "run": entry["run"] if entry else None, "told": told, "problem": ""}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "libraries": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "str", "required": True},
            "disks": {"type": "list", "elements": "str", "default": []},
            "lease": {"type": "path", "default": ""},
            "quarantine": {"type": "path", "default": ""},
            "run": {"type": "str", "default": ""},
            "gpus": {"type": "bool", "default": False},
            "docker": {"type": "bool", "default": False},
            "image": {"type": "str", "default": ""},
            "endpoints": {"type": "list", "elements": "str", "default": []},
            "name": {"type": "str", "default": ""},
            "wanted": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given = module.params
    containers = occupants.run_containers()
    # By the names that they were given: the caller looks them up by those.
    disks = {path: node_facts.disk(_expanded(path)) for path in [given["path"], *given["disks"]]}
    memory = node_facts.memory()
    machines = os.path.join(_expanded(given["path"]), "quarantine.json")
    index = node_facts.package_index(dict(os.environ), os.path.expanduser("~"))
    endpoints = [index if url == "pip" else url for url in given["endpoints"]]
    module.exit_json(
        changed=False,
        name=given["name"],
        wanted=given["wanted"],
        system=node_facts.operating_system(),
        cpus=len(os.sched_getaffinity(0)),
        listeners=_listeners(given["address"], given["ports"], containers),
        missing_libraries=[name for name in given["libraries"] if _is_missing(name)],
        free_bytes=disks[given["path"]]["free_bytes"],
        disks=disks,
        memory_available_bytes=memory["available_bytes"],
        memory_total_bytes=memory["total_bytes"],
        memlock=node_facts.locked_memory(),
        gpus=occupants.gpus(containers) if given["gpus"] else None,
        docker=node_facts.docker(given["image"]) if given["docker"] else None,
        others=occupants.others(given["run"], containers),
        lease=_lease(given["lease"]),
        shared_memory=occupants.shared_memory(),
        quarantine=quarantine.read(given["quarantine"] or machines) or quarantine.read(machines),
        endpoints=node_facts.reach([url for url in endpoints if url]),
        is_local_address=_is_local(given["address"]),
        user_id=os.getuid(),
        hostname=node_state.host_name(),
    )


if __name__ == "__main__":
    main()
