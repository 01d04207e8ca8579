"""An engine's Python environment on this machine, built by the project's own role."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyharness import paths
from pyharness.errors import UsageError
from pyharness.playbook import PlaybookRunner, error_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.lab.model import Lab

# The inventory of this machine that names an engine's environment, and the folder that describes it.
INVENTORIES: Final = {"simulator": "simulator", "sglang": "local"}
_FOLDERS: Final = {"simulator": "simulator", "sglang": "sglang-cpu"}
_DESCRIPTIONS = paths.COLLECTION / "roles" / "engine_env" / "files"
# A download of 1.6 GB counts.
_TIMEOUT = 2400


@dataclass(frozen=True)
class Environment:
    """An engine's environment.

    Attributes:
        directory: the virtual environment.
        path_dir: a folder for PYTHONPATH; None if there is none.
    """

    directory: Path
    path_dir: Path | None

    @property
    def packages(self) -> Path:
        """Its installed packages."""
        return self.directory / "lib" / "python3.11" / "site-packages"


def have(lab: Lab, engine: str, tell: Callable[[str], None]) -> Environment:
    """Have an engine's environment in the cache.

    Args:
        lab: keeps what was found out, so that Ansible is asked only when the description of the environment changes.
        engine: simulator or sglang.
        tell: told what takes long.

    Raises:
        UsageError: it could not be built.
    """
    kept = lab.state_dir / f"environment-{engine}-{_description_key(engine)}.json"
    if kept.is_file():
        known = _read(kept)
        if known.packages.is_dir() and (known.path_dir is None or known.path_dir.is_dir()):
            return known
    tell(f"environment of {engine}: building it, or finding it in the cache")
    paths.use_project_ansible()
    with tempfile.TemporaryDirectory(prefix="disagg-lab-") as logs:
        runner = PlaybookRunner(paths.INVENTORIES / INVENTORIES[engine], Path(logs), lambda: False)
        variables = {"environment_file": str(kept), "disagg_cache_dir": str(lab.cache)}
        outcome = runner.run("lab_environment.yml", variables, label="environment", timeout=_TIMEOUT, patient=True)
    if not outcome.ok:
        words = outcome.failures[0].message if outcome.failures else error_line(outcome.output)
        raise UsageError(f"the environment of {engine} could not be built: {words}")
    return _read(kept)


def _description_key(engine: str) -> str:
    folder = _DESCRIPTIONS / _FOLDERS[engine]
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _read(file: Path) -> Environment:
    found = json.loads(file.read_text())
    return Environment(Path(found["directory"]), Path(found["path_dir"]) if found["path_dir"] else None)
