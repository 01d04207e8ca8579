"""Python environments of role engine_env on this machine, for what is no service of a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyharness import paths, temporary
from pyharness.errors import UsageError
from pyharness.playbook import PlaybookRunner, error_line

if TYPE_CHECKING:
    from collections.abc import Callable

_DESCRIPTIONS: Final = paths.COLLECTION / "roles" / "engine_env" / "files"
# A download of 1.6 GB counts.
_TIMEOUT = 2400


@dataclass(frozen=True)
class Environment:
    """A Python environment.

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


def have(name: str, cache: Path, kept: Path, tell: Callable[[str], None], inventory: str = "local") -> Environment:
    """Have an environment in the cache.

    Args:
        name: a folder below the role's files/.
        cache: the cache's folder.
        kept: folder that keeps what was found out, so that Ansible is asked only when the environment's description
            changes.
        tell: told what takes long.
        inventory: of this machine.

    Raises:
        UsageError: it could not be built.
    """
    file = kept / f"environment-{name}-{_description_key(name)}.json"
    if file.is_file():
        known = _read(file)
        if known.packages.is_dir() and (known.path_dir is None or known.path_dir.is_dir()):
            return known
    tell(f"environment {name}: building it, or finding it in the cache")
    paths.use_project_ansible()
    with temporary.folder("environment") as logs:
        runner = PlaybookRunner(paths.INVENTORIES / inventory, logs, lambda: False)
        variables = {"environment_file": str(file), "disagg_cache_dir": str(cache), "disagg_engine_env": name}
        outcome = runner.run("environment.yml", variables, label="environment", timeout=_TIMEOUT, patient=True)
    if not outcome.ok:
        words = outcome.failures[0].message if outcome.failures else error_line(outcome.output)
        raise UsageError(f"environment {name} could not be built: {words}")
    return _read(file)


def _description_key(name: str) -> str:
    folder = _DESCRIPTIONS / name
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _read(file: Path) -> Environment:
    found = json.loads(file.read_text())
    return Environment(Path(found["directory"]), Path(found["path_dir"]) if found["path_dir"] else None)
