"""The mark that a node cannot be cleaned: one JSON file on the node, with the reason.

It stays until a person removes it, because what is wrong does not go away by itself and would spoil the next run.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_FIELDS = ("node", "reason", "run", "since")


def read(path: str) -> dict[str, Any] | None:
    """Return the entry with node, reason, run and since (UTC); None if the node is not in quarantine.

    A file that cannot be understood is a quarantine too, with that as its reason: somebody had one.
    """
    try:
        entry = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return {**dict.fromkeys(_FIELDS), "reason": f"{path} cannot be read: {error}"}
    if not isinstance(entry, dict) or not entry.get("reason"):
        return {**dict.fromkeys(_FIELDS), "reason": f"{path} names no reason"}
    return {field: entry.get(field) for field in _FIELDS}


def write(path: str, node: str, reason: str, run: str) -> dict[str, Any]:
    """Put a node into quarantine and return its entry. The first reason stays: later ones follow from it.

    Raises:
        OSError: the file cannot be written.
    """
    present = read(path)
    if present is not None:
        return present
    entry = {
        "node": node,
        "reason": reason,
        "run": run,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".quarantine-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(entry, stream)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise
    return entry


def remove(path: str) -> None:
    """Release a node; nothing happens when it is not in quarantine.

    Raises:
        OSError: the file cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)
