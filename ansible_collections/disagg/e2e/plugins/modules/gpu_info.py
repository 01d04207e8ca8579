#!/usr/bin/python
"""Read which GPUs a node has and who computes on them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Read which NVIDIA GPUs a node has and who computes on them, without changing anything
description:
  - Does not fail when the GPUs cannot be asked; RV(problem) says why then.
options:
  indices:
    description: The GPUs that count, by index. Empty for all.
    type: list
    elements: int
    default: []
  nvidia_smi:
    description: The program to ask, a name on E(PATH) or a path.
    type: str
    default: nvidia-smi
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See the GPUs
  disagg.e2e.gpu_info: {indices: [6, 7]}
"""

RETURN = r"""
driver:
  description: Version of the driver.
  returned: success
  type: str
cuda:
  description: The newest CUDA version that the driver serves.
  returned: success
  type: str
gpus:
  description:
    - The GPUs that count, each with index, uuid, name, memory_total_mib, memory_used_mib and processes (pid, user,
      command, container, used_mib).
  returned: success
  type: list
  elements: dict
problem:
  description: Why the GPUs cannot be asked, and what to do. Empty when they can.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import gpu


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "indices": {"type": "list", "elements": "int", "default": []},
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
        },
        supports_check_mode=True,
    )
    found: dict[str, Any] = {"driver": None, "cuda": None, "gpus": []}
    problem = ""
    try:
        found = gpu.inventory(module.params["nvidia_smi"])
        found["gpus"] = gpu.chosen(found["gpus"], module.params["indices"])
    except gpu.GpuError as error:
        problem = str(error)
    for one in found["gpus"]:
        one["processes"] = [{**gpu.describe(entry["pid"]), **entry} for entry in one["processes"]]
    module.exit_json(changed=False, problem=problem, **found)


if __name__ == "__main__":
    main()
