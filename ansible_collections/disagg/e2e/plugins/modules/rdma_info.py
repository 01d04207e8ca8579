#!/usr/bin/python
"""Read which RDMA devices a node has, and whether they are what is wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rdma_info
short_description: Read which RDMA devices a node has and whether they can carry data, without changing anything
description:
  - Reads what the kernel shows below /sys and the device nodes below /dev. Asks no library and no program but
    C(dpkg-query).
  - Does not fail when a device is missing. What is wrong stands in RV(problem), what to do in RV(remedy).
options:
  devices:
    description: Devices that have to be usable, by name. Empty when any one will do.
    type: list
    elements: str
    default: []
  mode:
    description: What they have to be.
    type: str
    choices: [any, roce, iwarp, infiniband]
    default: any
  timeout:
    description: Seconds to wait for that, as when a driver has just been loaded.
    type: int
    default: 0
  packages:
    description: Packages whose installed version is to be told.
    type: list
    elements: str
    default: []
  sysfs_root:
    description: Where sysfs is mounted.
    type: path
    default: /sys
  dev_root:
    description: Where the device nodes are.
    type: path
    default: /dev
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See whether there is a RoCE device that works
  disagg.e2e.rdma_info: {mode: roce}
  register: rdma
"""

RETURN = r"""
devices:
  description:
    - Each device with name, driver, vendor, node_type, mode (roce, iwarp, infiniband or null), firmware, netdevs,
      uverbs and ports.
    - A port has port, state, phys_state, link_layer, rate, gids (index, gid, type, netdev, usable), and sent and
      received in bytes (null when the driver counts none).
  returned: success
  type: list
  elements: dict
usable:
  description: Devices that lack nothing.
  returned: success
  type: list
  elements: str
missing:
  description: By device what it lacks, as statements.
  returned: success
  type: dict
problem:
  description: What is wrong, in one line. Empty when all is as wanted.
  returned: success
  type: str
remedy:
  description: What to do about it.
  returned: success
  type: str
driver_helps:
  description: Whether installing or loading the eRDMA driver anew can mend it.
  returned: success
  type: bool
device_nodes:
  description: The device nodes that a container needs to use the devices asked for, or all usable ones.
  returned: success
  type: list
  elements: str
module:
  description: The kernel module erdma with loaded, version and compat_mode.
  returned: success
  type: dict
packages:
  description: By name the version of those of O(packages) that are installed.
  returned: success
  type: dict
"""

import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import rdma

_POLL_SECONDS = 0.2
_DPKG_SECONDS = 30


def _versions(names: list[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed; nothing on a system without dpkg."""
    if not names:
        return {}
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}\t${Package}\t${Version}\n", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DPKG_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name: version for status, name, version in lines if status.startswith("ii")}


def _look(parameters: dict[str, Any]) -> dict[str, Any]:
    sysfs, dev = parameters["sysfs_root"], parameters["dev_root"]
    mode = None if parameters["mode"] == "any" else parameters["mode"]
    found = rdma.devices(sysfs, dev)
    judged = rdma.judge(found, parameters["devices"], mode, sysfs)
    manager = rdma.connection_manager(dev)
    asked = parameters["devices"] or judged["usable"]
    nodes = [node["path"] for device in found if device["name"] in asked for node in device["uverbs"] if node["usable"]]
    return {
        **judged,
        "devices": found,
        "device_nodes": nodes + ([manager["path"]] if manager["usable"] else []),
        "module": rdma.kernel_module(sysfs),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "devices": {"type": "list", "elements": "str", "default": []},
            "mode": {"type": "str", "choices": ["any", *rdma.MODES], "default": "any"},
            "timeout": {"type": "int", "default": 0},
            "packages": {"type": "list", "elements": "str", "default": []},
            "sysfs_root": {"type": "path", "default": "/sys"},
            "dev_root": {"type": "path", "default": "/dev"},
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + module.params["timeout"]
    seen = _look(module.params)
    while seen["problem"] and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        seen = _look(module.params)
    module.exit_json(changed=False, packages=_versions(module.params["packages"]), **seen)


if __name__ == "__main__":
    main()
