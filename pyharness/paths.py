"""Where things lie: the project's own files and the results of runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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


def slug(model: str) -> str:
    """Return the folder name of a model: ``org/model`` becomes ``org__model``."""
    return model.replace("/", "__")


def cache() -> Path:
    """Return what is kept on this machine from run to run; inventories name the same folder for their nodes."""
    if chosen := os.environ.get("DISAGG_E2E_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "disagg-e2e"
