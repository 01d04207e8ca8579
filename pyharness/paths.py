"""Where things lie: the project's own files and the results of runs."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent
PLAYBOOKS = PROJECT / "playbooks"
DECLARATIONS = PLAYBOOKS / "vars"
INVENTORIES = PROJECT / "inventories"
COLLECTION = PROJECT / "ansible_collections" / "disagg" / "e2e"
DEFAULT_INVENTORY = INVENTORIES / "local"


def use_project_ansible() -> None:
    """Make every Ansible program that this process starts the project's own, with the project's configuration.

    The virtual environment need not be activated: its programs are found beside the running interpreter.
    """
    programs = str(Path(sys.executable).parent)
    search = os.environ.get("PATH", "").split(os.pathsep)
    if programs not in search:
        os.environ["PATH"] = os.pathsep.join([programs, *search])
    os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(PROJECT)


_VARIABLES = ("PATH", "ANSIBLE_CONFIG", "ANSIBLE_COLLECTIONS_PATH")
_lock = threading.Lock()
_users = 0
_before: dict[str, str | None] = {}


@contextmanager
def project_ansible() -> Iterator[None]:
    """Do so within this block, and put the environment back with the last of the blocks that overlap."""
    global _users  # noqa: PLW0603 (the environment is one for the whole process)
    with _lock:
        if _users == 0:
            _before.update({name: os.environ.get(name) for name in _VARIABLES})
        _users += 1
        use_project_ansible()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            for name, value in _before.items() if _users == 0 else ():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def slug(model: str) -> str:
    """Return the folder name of a model: ``org/model`` becomes ``org__model``."""
    return model.replace("/", "__")


def cache() -> Path:
    """Return what is kept on this machine from run to run; inventories name the same folder for their nodes."""
    if chosen := os.environ.get("DISAGG_E2E_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "disagg-e2e"
