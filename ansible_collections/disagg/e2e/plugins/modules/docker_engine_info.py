#!/usr/bin/python
"""Read all that the role docker_engine decides by, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_engine_info
short_description: Read a node's Docker engine, its settings file and what could be in the way, changing nothing
description:
  - All that the role docker_engine decides by, in one call, with the standard library only.
options:
  socket:
    description: The engine's socket.
    type: path
    default: /var/run/docker.sock
  settings_file:
    description: The daemon's settings.
    type: path
    default: /etc/docker/daemon.json
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See what is there
  disagg.e2e.docker_engine_info:
  register: engine
"""

RETURN = r"""
engine:
  description: >-
    What the engine says of itself (version, api_version, storage_driver, runtimes, registry_mirrors,
    insecure_registries, live_restore, cdi_devices, containers, those that run, and pid, the process that opened its
    socket); V(none) if it does not answer.
  returned: success
  type: dict
engine_error:
  description: Why it does not answer.
  returned: success
  type: str
settings:
  description: The content of O(settings_file); empty without the file, V(none) if it cannot be read.
  returned: success
  type: dict
settings_error:
  description: Why it cannot be read.
  returned: success
  type: str
system:
  description: Distribution and version, such as V(debian-12).
  returned: success
  type: str
installed:
  description: Whether there is a dockerd program.
  returned: success
  type: bool
nvidia_ctk:
  description: The NVIDIA container toolkit's program; empty without.
  returned: success
  type: str
has_requests:
  description: Whether this Python has requests, which community.docker needs.
  returned: success
  type: bool
has_systemd:
  description: Whether systemd is PID 1.
  returned: success
  type: bool
apt_lock:
  description: Path, pid and command of who holds a lock of apt; V(none) if nobody does.
  returned: success
  type: dict
user_id:
  description: The user that Ansible's modules run as.
  returned: success
  type: int
"""

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import apt_lock, docker_engine

# Without sbin in a user's PATH dockerd would pass for missing.
_SEARCH_PATH = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
_OS_RELEASE = Path("/etc/os-release")


def _system() -> str:
    """Return ID and VERSION_ID of os-release(5)."""
    fields: dict[str, str] = {}
    if _OS_RELEASE.exists():
        for line in _OS_RELEASE.read_text().splitlines():
            name, _equals, value = line.partition("=")
            fields[name] = value.strip("\"'")
    return f"{fields.get('ID', 'unknown')}-{fields.get('VERSION_ID', 'unknown')}"


def _settings(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the daemon's settings, or why they cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, ""
    except (OSError, UnicodeDecodeError) as error:
        return None, str(error)
    if not text.strip():
        return {}, ""
    try:
        found = json.loads(text)
    except ValueError as error:
        return None, str(error)
    if not isinstance(found, dict):
        return None, f"it holds a {type(found).__name__}, not an object"
    return found, ""


def _engine(socket: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return docker_engine.describe(socket), ""
    except docker_engine.EngineError as error:
        return None, str(error)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "default": "/var/run/docker.sock"},
            "settings_file": {"type": "path", "default": "/etc/docker/daemon.json"},
        },
        supports_check_mode=True,
    )
    engine, engine_error = _engine(module.params["socket"])
    settings, settings_error = _settings(Path(module.params["settings_file"]))
    module.exit_json(
        changed=False,
        engine=engine,
        engine_error=engine_error,
        settings=settings,
        settings_error=settings_error,
        system=_system(),
        installed=shutil.which("dockerd", path=_SEARCH_PATH) is not None,
        nvidia_ctk=shutil.which("nvidia-ctk", path=_SEARCH_PATH) or "",
        has_requests=importlib.util.find_spec("requests") is not None,
        has_systemd=Path("/run/systemd/system").is_dir(),
        apt_lock=apt_lock.holder(),
        user_id=os.getuid(),
    )


if __name__ == "__main__":
    main()
