"""The action disagg.e2e.wheel_file: have the wheel that was asked for as a file. Documented beside the modules."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

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
        message = f"{wheel} is not a wheel ({str(error) or 'no METADATA in it'})"
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


class ActionModule(ActionBase):
    """The action."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Find or fetch the wheel.

        Args:
            tmp: not used any more by Ansible.
            task_vars: variables of the task.
        """
        super().run(tmp, task_vars)
        spec = {name: {"type": "str", "required": True} for name in ("source", "package", "cache_dir")}
        _result, arguments = self.validate_argument_spec(argument_spec=spec)
        source, package, changed = arguments["source"], arguments["package"], False
        try:
            if source.endswith(".whl"):
                wheel, origin = Path(source), "file"
            else:
                directory, origin = Path(arguments["cache_dir"]).expanduser() / f"{package}-{source}", "index"
                if cache.read_record(directory) is None:
                    _fetch(package, source, directory)
                    changed = True
                wheel = next(directory.glob("*.whl"))
            version = _metadata_version(wheel)
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        except (ValueError, OSError, TimeoutError) as error:
            raise AnsibleActionFail(str(error)) from error
        return {"changed": changed, "file": str(wheel), "sha256": digest, "version": version, "source": origin}
