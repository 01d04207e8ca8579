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
    description: The wheel, on the node. It may be missing when the result is there already.
    type: path
    required: true
  sha256:
    description: The digest that it must have.
    type: str
    required: true
  python:
    description: Program and arguments that run the Python that will import it; in a container, for one.
    type: list
    elements: str
    required: true
  target:
    description: What that Python is, so that another one gets a directory of its own.
    type: str
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
    python: [/opt/engine/bin/python]
    target: /opt/engine
    cache_dir: /var/cache/disagg-e2e/overlays
"""

RETURN = r"""
directory:
  description: What goes first on C(PYTHONPATH).
  returned: success
  type: str
missing:
  description: Whether nothing was done because O(file) is not there, and it is needed.
  returned: success
  type: bool
"""

import hashlib
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import cache

_INSTALL_SECONDS = 300


# What a wheel has to be once it is installed: found first, of the version that its name says. Metadata only: importing
# may need a GPU's libraries.
_VERIFY = """
import sys; sys.path.insert(0, sys.argv[1])
import importlib.metadata as metadata
found = metadata.distribution(sys.argv[2])
assert str(found.locate_file("")).rstrip("/") == sys.argv[1], "found in " + str(found.locate_file(""))
assert found.version == sys.argv[3], "its version is " + found.version
"""


class InstallError(Exception):
    """The wheel cannot be installed; the text says why."""


def _run(python: list[str], *arguments: str) -> None:
    done = subprocess.run([*python, *arguments], capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
    if done.returncode != 0:
        raise InstallError(done.stderr[-800:].strip() or f"exit status {done.returncode}")


def _install(wheel: Path, python: list[str], building: Path) -> None:
    """Install a wheel, and verify that this Python finds it."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--no-index"]
    _run(python, "-m", "pip", "install", *options, "--target", str(building), str(wheel))
    distribution, version = wheel.name.split("-")[:2]
    _run(python, "-c", _VERIFY, str(building), distribution, version)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "file": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "python": {"type": "list", "elements": "str", "required": True},
            "target": {"type": "str", "required": True},
            "cache_dir": {"type": "path", "required": True},
        },
    )
    parameters = module.params
    wheel, sha256 = Path(parameters["file"]), parameters["sha256"]
    name = "-".join(wheel.name.split("-")[:2])
    directory = Path(parameters["cache_dir"]) / f"{name}-{cache.key_of(sha256, parameters['target'])}"
    done = {"directory": str(directory), "missing": False}
    if cache.read_record(directory) is not None:
        module.exit_json(changed=False, **done)
    if not wheel.exists():
        module.exit_json(changed=False, **{**done, "missing": True})
    try:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != sha256:
            module.fail_json(msg=f"{wheel} has sha256 {found}, not {sha256}: it was changed on its way to this node")
        with cache.locked(directory, _INSTALL_SECONDS):
            if cache.read_record(directory) is not None:
                module.exit_json(changed=False, **done)
            with cache.workspace(directory) as building:
                _install(wheel, parameters["python"], building)
                cache.write_record(building, {"wheel": wheel.name, "sha256": sha256})
    except InstallError as error:
        module.fail_json(msg=f"{wheel} cannot be installed with {parameters['target']}: {error}")
    except (OSError, TimeoutError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, **done)


if __name__ == "__main__":
    main()
