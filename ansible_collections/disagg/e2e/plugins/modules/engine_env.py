#!/usr/bin/python
"""Build a Python environment from a lock file, once, and keep it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_env
short_description: Build a Python environment from a lock file, once, and keep it in the node's cache
description:
  - The environment is named by a hash of the lock file and the Python version. A complete one is left alone.
  - The lock file has to be whole (C(--no-deps)); what it says is installed, and nothing else.
  - Package indexes are pip's own configuration on the node.
options:
  name:
    description: The environment's name, the first part of its directory's.
    type: str
    required: true
  requirements:
    description: Text of the lock file.
    type: str
    required: true
  path_files:
    description: >-
      Files, by relative path, that go into a folder of their own, meant for C(PYTHONPATH): what adapts the packages
      to this platform. They do not cause a new build of the environment.
    type: dict
    default: {}
  cache_dir:
    description: Directory that holds environments.
    type: path
    required: true
  uv:
    description: >-
      Path of the uv program on the node, which installs three times as fast as pip. Empty, or where there is none,
      pip installs.
    type: path
    default: ""
  extra_index_url:
    description: Index used only if the node's own configuration does not know O(extra_index_for).
    type: str
    default: ""
  extra_index_for:
    description: A pinned requirement, such as C(torch==2.13.0+cpu), that usual indexes do not have.
    type: str
    default: ""
  timeout:
    description: Seconds that the build may take.
    type: int
    default: 1800
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Build the environment
  disagg.e2e.engine_env:
    name: tools
    requirements: "six==1.17.0"
    cache_dir: /var/cache/disagg-e2e/envs
"""

RETURN = r"""
directory:
  description: The environment.
  returned: success
  type: str
python:
  description: Its interpreter.
  returned: success
  type: str
path_dir:
  description: The folder for C(PYTHONPATH), empty if there is none.
  returned: success
  type: str
key:
  description: The hash in its name.
  returned: success
  type: str
seconds:
  description: How long its build took.
  returned: success
  type: float
bytes:
  description: Its size on disk.
  returned: success
  type: int
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import cache

# Raise it when the recipe below changes what it makes of the same lock file.
_RECIPE = 1


class BuildError(Exception):
    """A step of the build failed."""


def _step(command: list[str], deadline: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=max(1.0, deadline - time.monotonic())
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(str(error)) from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise BuildError(f"{' '.join(command[:6])} … ended with {done.returncode}:\n{tail}")
    return done.stdout


def _index_options(pip: list[str], parameters: dict[str, Any], deadline: float) -> list[str]:
    """Tell which extra index is needed: none, if what usual indexes lack is found without."""
    wanted, url = parameters["extra_index_for"], parameters["extra_index_url"]
    if not wanted or not url or wanted not in parameters["requirements"].splitlines():
        return []
    try:
        _step([*pip, "install", "--quiet", "--dry-run", "--no-deps", wanted], deadline)
    except BuildError:
        return ["--extra-index-url", url]
    return []


def _pip_indexes(pip: list[str], deadline: float) -> list[str]:
    """Hand pip's indexes on to uv, which does not read pip's configuration."""
    flags = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
    # Like pip, and unlike uv's default: of all indexes the best match, not the first index that knows the name.
    options = ["--index-strategy", "unsafe-best-match"]
    for line in _step([*pip, "config", "list"], deadline).splitlines():
        key, _, value = line.partition("=")
        flag = flags.get(key.rpartition(".")[2])
        for word in value.strip().strip("'\"").replace("\\n", " ").split() if flag else []:
            options += [str(flag), word]
    return options


def _build(directory: Path, parameters: dict[str, Any]) -> None:
    """Make the environment in place (virtual environments do not survive a rename) and mark it complete."""
    started = time.monotonic()
    deadline = started + parameters["timeout"]
    shutil.rmtree(directory, ignore_errors=True)
    _step([sys.executable, "-m", "venv", str(directory)], deadline)
    lock = directory / "requirements.lock"
    lock.write_text(parameters["requirements"])
    python = str(directory / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = _index_options(pip, parameters, deadline)
    if parameters["uv"] and os.access(parameters["uv"], os.X_OK):
        command = [parameters["uv"], "pip", "install", "--quiet", "--python", python, *_pip_indexes(pip, deadline)]
    else:
        command = [*pip, "install", "--quiet", "--no-compile"]
    _step([*command, "--no-deps", *options, "-r", str(lock)], deadline)
    # Side by side, and here rather than at the first start: importing is what an engine's start mostly consists of.
    compiling = [python, "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1), str(directory / "lib")]
    # A package may carry a file that is no valid Python (templates, tests of old syntax); it is not imported either.
    subprocess.run(compiling, capture_output=True, check=False, timeout=max(1.0, deadline - time.monotonic()))
    cache.write_record(
        directory, {"seconds": round(time.monotonic() - started, 1), "bytes": cache.size_bytes(directory)}
    )


def _write_path(cache_dir: Path, name: str, files: dict[str, str]) -> tuple[str, bool]:
    """Write the PYTHONPATH folder, named by its content."""
    if not files:
        return "", False
    directory = cache_dir / f"{name}-path-{cache.key_of(files)}"
    if cache.read_record(directory) is not None:
        return str(directory), False
    with cache.locked(directory, 60), cache.workspace(directory) as building:
        for relative, text in files.items():
            target = building / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        cache.write_record(building, {"files": sorted(files)})
    return str(directory), True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "requirements": {"type": "str", "required": True},
            "path_files": {"type": "dict", "default": {}},
            "cache_dir": {"type": "path", "required": True},
            "uv": {"type": "path", "default": ""},
            "extra_index_url": {"type": "str", "default": ""},
            "extra_index_for": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    key = cache.key_of(_RECIPE, platform.python_version(), parameters["requirements"])
    directory = Path(parameters["cache_dir"]) / f"{parameters['name']}-{key}"
    record, changed = cache.read_record(directory), False
    if module.check_mode:
        module.exit_json(changed=record is None)
    try:
        if record is None:
            with cache.locked(directory, parameters["timeout"]):
                record = cache.read_record(directory)
                if record is None:
                    _build(directory, parameters)
                    record, changed = cache.read_record(directory), True
        path_dir, wrote = _write_path(Path(parameters["cache_dir"]), parameters["name"], parameters["path_files"])
    except (BuildError, TimeoutError, OSError) as error:
        module.fail_json(msg=f"environment {parameters['name']} in {directory}: {error}")
    module.exit_json(
        changed=changed or wrote,
        directory=str(directory),
        python=str(directory / "bin" / "python"),
        path_dir=path_dir,
        key=key,
        **(record or {}),
    )


if __name__ == "__main__":
    main()
