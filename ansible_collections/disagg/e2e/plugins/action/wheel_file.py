"""The action disagg.e2e.wheel_file: have the wheel that was asked for as a file. Documented beside the modules."""

from __future__ import annotations

import hashlib
import os
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.disagg.e2e.plugins.module_utils import wheel_sources


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
        spec: dict[str, dict[str, Any]] = {
            name: {"type": "str", "required": True} for name in ("source", "package", "cache_dir")
        }
        spec |= {name: {"type": "str", "default": ""} for name in ("repository", "python_tag", "machine")}
        _result, arguments = self.validate_argument_spec(argument_spec=spec)
        wanted = wheel_sources.Wanted(arguments["package"], arguments["python_tag"], arguments["machine"])
        cache_dir = Path(arguments["cache_dir"]).expanduser()
        try:
            found = wheel_sources.find(arguments["source"], wanted, cache_dir, arguments["repository"], os.environ)
            version = _metadata_version(found.path)
            digest = hashlib.sha256(found.path.read_bytes()).hexdigest()
        except (ValueError, OSError, TimeoutError) as error:
            raise AnsibleActionFail(str(error)) from None
        return {
            "changed": found.changed,
            "file": str(found.path),
            "sha256": digest,
            "version": version,
            "source": found.source,
            "origin": found.origin,
        }
