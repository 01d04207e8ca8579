#!/usr/bin/python
"""Make directories by commands, once, and keep them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cached_build
short_description: Make directories by commands, once per key, and keep them in the node's cache
description:
  - Each build is a command that writes into the directory that stands in its arguments as C({out}).
  - The directory is named by a hash of O(builds[].key). Where it is complete already, nothing runs.
  - Builds that are missing run side by side, in dependence of O(jobs).
options:
  cache_dir:
    description: Directory that holds the results.
    type: path
    required: true
  builds:
    description: What has to be there.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is, for people; the first part of the directory's name.
        type: str
        required: true
      key:
        description: All that the result depends on.
        type: raw
        required: true
      command:
        description: Program and arguments; C({out}) stands for the directory, C({files}) for that of O(builds[].files).
        type: list
        elements: str
        required: true
      files:
        description: Texts, by name, that the command finds as files while it runs, such as a program of its own.
        type: dict
        default: {}
      result:
        description: A JSON file of the directory to return.
        type: str
  environment:
    description: Variables of the commands.
    type: dict
    default: {}
  jobs:
    description: How many commands run at once.
    type: int
    default: 2
  timeout:
    description: Seconds that one command may take.
    type: int
    default: 600
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Make a model
  disagg.e2e.cached_build:
    cache_dir: /var/cache/disagg-e2e/models
    builds:
      - name: qwen3
        key: [qwen3, 0]
        command: [python3, make_model.py, --architecture, qwen3, --out, "{out}/model"]
        result: model/config.json
"""

RETURN = r"""
builds:
  description: For each build its name, directory, key, made (in this call) and result (the JSON file's content).
  returned: success
  type: list
  elements: dict
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import cache


class BuildError(Exception):
    """A command did not make what it should have."""


def _replace(text: str, replaced: dict[str, str]) -> str:
    for placeholder, value in replaced.items():
        text = text.replace(placeholder, value)
    return text


def _run(build: dict[str, Any], building: Path, parameters: dict[str, Any]) -> None:
    # Beside what is made, so that a container that sees the one sees the other.
    files = building / ".files"
    files.mkdir()
    for name, text in build["files"].items():
        (files / name).write_text(text)
    replaced = {"{out}": str(building), "{files}": str(files)}
    command = [_replace(argument, replaced) for argument in build["command"]]
    environment = {**os.environ, **{key: str(value) for key, value in parameters["environment"].items()}}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=parameters["timeout"]
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{build['name']}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise BuildError(f"{build['name']}: exit status {done.returncode} of {command[0]} {command[1]}:\n{tail}")
    shutil.rmtree(files)


def _make(build: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    key = cache.key_of(build["key"])
    directory = Path(parameters["cache_dir"]) / f"{build['name']}-{key}"
    made = False
    if cache.read_record(directory) is None:
        with cache.locked(directory, parameters["timeout"]):
            if cache.read_record(directory) is None:
                started = time.monotonic()
                with cache.workspace(directory) as building:
                    _run(build, building, parameters)
                    if build["result"] and not (building / build["result"]).is_file():
                        raise BuildError(f"{build['name']}: the command ended well without writing {build['result']}")
                    cache.write_record(building, {"seconds": round(time.monotonic() - started, 2)})
                made = True
    result = json.loads((directory / build["result"]).read_text()) if build["result"] else None
    return {"name": build["name"], "directory": str(directory), "key": key, "made": made, "result": result}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "cache_dir": {"type": "path", "required": True},
            "builds": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "key": {"type": "raw", "required": True, "no_log": False},
                    "command": {"type": "list", "elements": "str", "required": True},
                    "files": {"type": "dict", "default": {}},
                    "result": {"type": "str"},
                },
            },
            "environment": {"type": "dict", "default": {}},
            "jobs": {"type": "int", "default": 2},
            "timeout": {"type": "int", "default": 600},
        },
    )
    parameters = module.params
    try:
        with concurrent.futures.ThreadPoolExecutor(parameters["jobs"]) as pool:
            builds = list(pool.map(lambda build: _make(build, parameters), parameters["builds"]))
    except (BuildError, TimeoutError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=any(build["made"] for build in builds), builds=builds)


if __name__ == "__main__":
    main()
