#!/usr/bin/python
"""Find ports of a node that nobody holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: free_ports
short_description: Find TCP ports of a node that nobody holds, one for each name
description:
  - Asks the kernel for ports that are free on the address, and on every other address of the node too where
    O(everywhere) says so, for services that listen on all of them.
  - The ports are not held afterwards. They are of the range that the kernel gives to outgoing connections, so start
    what is to listen on them right away, and take a failure to bind for what it is.
options:
  address:
    description: Address that the services will listen on.
    type: str
    required: true
  names:
    description: What the ports are for.
    type: list
    elements: str
    required: true
  everywhere:
    description: Whether they have to be free on all addresses of the node.
    type: bool
    default: false
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Find ports for Mooncake's master
  disagg.e2e.free_ports:
    address: 127.0.0.11
    names: [rpc, metrics, metadata]
  register: ports
"""

RETURN = r"""
ports:
  description: A port for each name.
  returned: success
  type: dict
"""

import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def free_ports(address: str, count: int) -> list[int]:
    """Return ports that are free, each another one.

    Args:
        address: where; "" for all addresses of the node.
        count: how many.

    Raises:
        OSError: the address is not of this node, or there are not so many.
    """
    held = []
    try:
        for _ in range(count):
            # Held until all are found, or the kernel might give one twice.
            held.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            held[-1].bind((address, 0))
        return [int(taken.getsockname()[1]) for taken in held]
    finally:
        for taken in held:
            taken.close()


def main() -> None:
    """Run the module."""
    arguments: dict[str, dict[str, Any]] = {
        "address": {"type": "str", "required": True},
        "names": {"type": "list", "elements": "str", "required": True},
        "everywhere": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    address, names = module.params["address"], module.params["names"]
    try:
        found = free_ports("" if module.params["everywhere"] else address, len(names))
    except OSError as error:
        module.fail_json(msg=f"{address}: no {len(names)} free ports: {error.strerror or error}")
    module.exit_json(changed=False, ports=dict(zip(names, found, strict=True)))


if __name__ == "__main__":
    main()
