#!/usr/bin/python
"""Read what a node has and what runs on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Read what a node has and what runs on it, without changing anything
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
    description: A path on the file system whose free space counts; the nearest existing parent is taken.
    type: path
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See who listens on the ports
  disagg.e2e.node_info: {address: 127.0.0.11, ports: [30001], path: /tmp}
"""

RETURN = r"""
listeners:
  description: For each socket that listens on one of the ports its port, address and process (see proc).
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
memory_available_bytes:
  description: Memory that can be had without swapping.
  returned: success
  type: int
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
import shutil
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import node_state


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


def _memory_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "libraries": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    existing = Path(parameters["path"])
    while not existing.exists():
        existing = existing.parent
    module.exit_json(
        changed=False,
        listeners=node_state.listeners(parameters["address"], parameters["ports"]),
        missing_libraries=[name for name in parameters["libraries"] if _is_missing(name)],
        free_bytes=shutil.disk_usage(existing).free,
        memory_available_bytes=_memory_available(),
        is_local_address=_is_local(parameters["address"]),
        user_id=os.getuid(),
        hostname=node_state.host_name(),
    )


if __name__ == "__main__":
    main()
