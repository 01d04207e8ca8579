#!/usr/bin/python
"""Unpack a wheel into a directory of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_overlay
short_description: Install a wheel into a directory of its own, to be put first on C(PYTHONPATH)
description:
  - The engine's environment is shared by all runs and never holds the package under test. A run puts the directory
    of the wheel that it was asked to test before it, so two runs with two wheels do not disturb each other.
options:
  file:
    description: The wheel, on the node.
    type: path
    required: true
  sha256:
    description: The digest that it must have.
    type: str
    required: true
  python:
    description: Interpreter of the environment that will import it.
    type: path
    required: true
  cache_dir:
    description: Directory that holds the result.
    type: path
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Install a wheel beside the environment
  disagg.e2e.wheel_overlay:
    file: /tmp/mooncake_transfer_engine-0.3.13-cp311-cp311-manylinux_2_35_x86_64.whl
    sha256: "{{ sha256 }}"
    python: /opt/engine/bin/python
    cache_dir: /var/cache/disagg-e2e/overlays
"""

RETURN = r"""
directory:
  description: What goes first on C(PYTHONPATH).
  returned: success
  type: str
"""

import hashlib
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import cache

_INSTALL_SECONDS = 300


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "file": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
            "cache_dir": {"type": "path", "required": True},
        },
    )
    wheel, sha256, python = Path(module.params["file"]), module.params["sha256"], module.params["python"]
    name = "-".join(wheel.name.split("-")[:2])
    directory = Path(module.params["cache_dir"]) / f"{name}-{cache.key_of(sha256, python)}"
    if cache.read_record(directory) is not None:
        module.exit_json(changed=False, directory=str(directory))
    try:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != sha256:
            module.fail_json(msg=f"{wheel} has sha256 {found}, not {sha256}: it was changed on its way to this node")
        with cache.locked(directory, _INSTALL_SECONDS):
            if cache.read_record(directory) is not None:
                module.exit_json(changed=False, directory=str(directory))
            with cache.workspace(directory) as building:
                command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
                command += ["--no-deps", "--no-index", "--target", str(building), str(wheel)]
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
                if done.returncode != 0:
                    module.fail_json(msg=f"{wheel} cannot be installed with {python}: {done.stderr[-800:].strip()}")
                cache.write_record(building, {"wheel": wheel.name, "sha256": sha256})
    except (OSError, TimeoutError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, directory=str(directory))


if __name__ == "__main__":
    main()
