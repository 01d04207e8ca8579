#!/usr/bin/python
"""Wait until the memory of GPUs is free, and end processes of one run that hold it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_clean
short_description: Wait until the memory of GPUs is free; end what a run left there
description:
  - Ends only processes whose cgroup is that of a Docker container with the label C(disagg-e2e.run=O(run)). Every other
    process is left alone, and reported.
  - Does not fail when memory stays held. RV(problem) says by whom, RV(quarantine) whether the node is of no use until a
    person has looked at it.
options:
  run:
    description: The run whose processes may be ended.
    type: str
    required: true
  indices:
    description: The GPUs that count, by index. Empty for all.
    type: list
    elements: int
    default: []
  max_used_mib:
    description: How much of a GPU's memory may be in use for it to be free, in MiB. A driver keeps some for itself.
    type: int
    default: 1024
  timeout:
    description: Seconds until the memory has to be free.
    type: int
    default: 60
  nvidia_smi:
    description: The program to ask, a name on E(PATH) or a path.
    type: str
    default: nvidia-smi
  proc_root:
    description: Where cgroups of processes are read, so that recorded ones can be.
    type: path
    default: /proc
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Free the last two GPUs
  disagg.e2e.gpu_clean: {run: manual, indices: [6, 7]}
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
  description: The GPUs that count, as gpu_info tells them, without their processes.
  returned: success
  type: list
  elements: dict
ended:
  description: Processes that were ended (pid, user, command, container).
  returned: success
  type: list
  elements: dict
holders:
  description: Processes that hold memory at the end (pid, user, command, container, gpu, used_mib, ours).
  returned: success
  type: list
  elements: dict
problem:
  description: What is wrong and what to do, in one line. Empty when the memory is free.
  returned: success
  type: str
quarantine:
  description: Whether the node cannot be cleaned - a process of the run outlives SIGKILL, or memory is held by nobody.
  returned: success
  type: bool
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import containers, gpu

_POLL_SECONDS = 0.5


class _Cleaner:
    """One clean-up: looks, ends what is the run's, and looks again.

    Args:
        parameters: the module's.
        may_end: whether processes are ended at all (not in check mode).
    """

    def __init__(self, parameters: dict[str, Any], *, may_end: bool) -> None:
        self._parameters = parameters
        self._may_end = may_end
        self.ended: dict[int, dict[str, Any]] = {}
        self.found: dict[str, Any] = {}
        self.holders: list[dict[str, Any]] = []

    def look(self) -> list[dict[str, Any]]:
        """Return the GPUs that are not free, and note who holds them.

        Raises:
            gpu.GpuError: the GPUs cannot be asked.
        """
        asked = self._parameters
        self.found = gpu.inventory(asked["nvidia_smi"])
        self.found["gpus"] = gpu.chosen(self.found["gpus"], asked["indices"])
        # Memory that is not told is not known to be free.
        held = [
            one
            for one in self.found["gpus"]
            if one["memory_used_mib"] is None or one["memory_used_mib"] > asked["max_used_mib"]
        ]
        pids = [(one["index"], entry) for one in held for entry in one["processes"]]
        own = {found["id"] for found in containers.run_containers(asked["run"])} if pids else set()
        self.holders = []
        for index, entry in pids:
            about = gpu.describe(entry["pid"], asked["proc_root"])
            self.holders.append(
                {**about, "gpu": index, "used_mib": entry["used_mib"], "ours": about["container"] in own}
            )
        return held

    def end_ours(self) -> None:
        """End the run's processes among the holders."""
        for holder in self.holders:
            if holder["ours"] and holder["pid"] not in self.ended and self._may_end:
                # Asked anew for each: what runs in the container must be the run's when the signal goes.
                about = {key: holder[key] for key in ("pid", "user", "command", "container")}
                if gpu.end_if_in(holder["pid"], {holder["container"]}, self._parameters["proc_root"]):
                    self.ended[holder["pid"]] = about

    def verdict(self, held: list[dict[str, Any]]) -> tuple[str, bool]:
        """Return what is wrong in one line, and whether the node cannot be cleaned."""
        if not held:
            return "", False
        asked = self._parameters
        total = ", ".join(
            f"GPU {one['index']}: {one['memory_used_mib']} of {one['memory_total_mib']} MiB" for one in held
        )
        text = f"GPU memory is held after {asked['timeout']} s ({total}; {asked['max_used_mib']} MiB are allowed)"
        strangers = [holder for holder in self.holders if not holder["ours"]]
        if strangers:
            who = "; ".join(
                f"pid {holder['pid']} of {holder['user']}, {(holder['command'] or 'command unknown')[:120]}, "
                f"container {(holder['container'] or 'none')[:12]}"
                for holder in strangers
            )
            return (
                f"{text} by processes that are not of run {asked['run']}: {who}; end them, or choose other GPUs",
                False,
            )
        if self.holders:
            pids = ", ".join(str(holder["pid"]) for holder in self.holders)
            return f"{text} by pid {pids} of run {asked['run']}, which cannot be ended; reboot the node", True
        return f"{text} and by no process that nvidia-smi lists; see dmesg for NVRM: Xid, reset the GPU or reboot", True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "indices": {"type": "list", "elements": "int", "default": []},
            "max_used_mib": {"type": "int", "default": 1024},
            "timeout": {"type": "int", "default": 60},
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
            "proc_root": {"type": "path", "default": "/proc"},
        },
        supports_check_mode=True,
    )
    cleaner = _Cleaner(module.params, may_end=not module.check_mode)
    deadline = time.monotonic() + module.params["timeout"]
    found: dict[str, Any] = {"driver": None, "cuda": None, "gpus": []}
    try:
        held = cleaner.look()
        cleaner.end_ours()
        while held and time.monotonic() < deadline and not module.check_mode:
            time.sleep(_POLL_SECONDS)
            held = cleaner.look()
            cleaner.end_ours()
        problem, quarantine = cleaner.verdict(held)
        found = cleaner.found
    except gpu.GpuError as error:
        problem, quarantine = str(error), False
    except PermissionError as error:
        problem, quarantine = f"a process of the run cannot be ended: {error}; run as root (become)", False
    for one in found["gpus"]:
        one.pop("processes")
    module.exit_json(
        changed=bool(cleaner.ended),
        ended=list(cleaner.ended.values()),
        holders=cleaner.holders,
        problem=problem,
        quarantine=quarantine,
        **found,
    )


if __name__ == "__main__":
    main()
