"""What the phases of a run depend on, as digests: `--resume` repeats a phase when its digest is another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.case import TestCase
    from pyharness.options import Options

_LEFT_OUT = {"__pycache__", "molecule", "tests", "changelogs"}


class Inputs:
    """Digests of the inputs of one run's phases.

    Args:
        options: what is asked for.
        case: the declaration.
    """

    def __init__(self, options: Options, case: TestCase) -> None:
        asked = {
            "case": case.model_dump(mode="json", by_alias=True),
            "wheel": _wheel(options.wheel),
            "extra_vars": options.extra_vars,
        }
        grounds = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode())
        for folder in (*_inventory(options.inventory), paths.PLAYBOOKS, paths.COLLECTION):
            _feed(grounds, folder)
        judging = grounds.copy()
        _feed(judging, Path(__file__).parent)
        self._deployed, self._judged = grounds.hexdigest(), judging.hexdigest()

    def of(self, phase: str) -> str:
        """Return the digest of a phase.

        What Ansible does follows from the declaration, the inventory, the playbooks, the collection, the wheel and the
        variables; what is judged also from the harness itself.

        Args:
            phase: its name.
        """
        return self._deployed if phase in ("provision", "deploy") else self._judged


def _wheel(asked: str | None) -> str | None:
    """Return which wheel is asked for; a file by its content, because the next one may have the same name."""
    if asked is None:
        return None
    path = Path(asked)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else asked


def _inventory(path: Path) -> list[Path]:
    """Return the files and folders that belong to an inventory, and not what else may lie beside them."""
    if not path.is_dir():
        return [path]
    variables = [path / name for name in ("group_vars", "host_vars")]
    return [*(entry for entry in sorted(path.iterdir()) if entry.is_file()), *variables]


def _feed(digest: hashlib._Hash, root: Path) -> None:
    for path in _files(root):
        digest.update(b"\0" + bytes(path.relative_to(root.parent)) + b"\0")
        digest.update(path.read_bytes())


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(root).parts) and path.suffix != ".pyc":
            yield path
