#!/usr/bin/python
"""Have the wheel that was asked for as a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_file
short_description: Have the wheel that was asked for as a file, and know what it is
description:
  - A file is taken as it is. A version is fetched once from the package index that pip is configured with.
options:
  source:
    description: Path of a wheel, or a version of O(package).
    type: str
    required: true
  package:
    description: Name of the distribution that a version is of.
    type: str
    required: true
  cache_dir:
    description: Directory that keeps what was fetched.
    type: path
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Have a release
  disagg.e2e.wheel_file:
    source: 0.3.13.post1
    package: mooncake-transfer-engine-non-cuda
    cache_dir: /var/cache/disagg-e2e/wheels
"""

RETURN = r"""
file:
  description: The wheel.
  returned: success
  type: str
sha256:
  description: Its digest.
  returned: success
  type: str
version:
  description: The version in its metadata.
  returned: success
  type: str
source:
  description: C(file) or C(index).
  returned: success
  type: str
"""

import hashlib
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import cache

_DOWNLOAD_SECONDS = 600


def _metadata_version(wheel: Path) -> str:
    """Return the version that a wheel says it is.

    Raises:
        ValueError: the file is no wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
            text = archive.read(name).decode()
    except (OSError, zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as error:
        message = f"{wheel} is not a wheel ({error or 'no METADATA in it'})"
        raise ValueError(message) from error
    return str(Parser().parsestr(text)["Version"])


def _fetch(package: str, version: str, directory: Path) -> None:
    """Fetch a version into `directory`.

    Raises:
        ValueError: the index does not have it, or does not answer.
    """
    with cache.locked(directory, _DOWNLOAD_SECONDS), cache.workspace(directory) as building:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(building), f"{package}=={version}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"fetching {package}=={version} took over {_DOWNLOAD_SECONDS} s") from error
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise ValueError(f"no {package}=={version} to be had: {errors[0][:600] if errors else done.stderr[-600:]}")
        cache.write_record(building, {"package": package, "version": version})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "package": {"type": "str", "required": True},
            "cache_dir": {"type": "path", "required": True},
        },
    )
    source, package = module.params["source"], module.params["package"]
    changed = False
    try:
        if source.endswith(".whl"):
            wheel, origin = Path(source), "file"
        else:
            directory, origin = Path(module.params["cache_dir"]) / f"{package}-{source}", "index"
            if cache.read_record(directory) is None:
                _fetch(package, source, directory)
                changed = True
            wheel = next(directory.glob("*.whl"))
        version = _metadata_version(wheel)
    except (ValueError, OSError, TimeoutError) as error:
        module.fail_json(msg=str(error))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    module.exit_json(changed=changed, file=str(wheel), sha256=digest, version=version, source=origin)


if __name__ == "__main__":
    main()
