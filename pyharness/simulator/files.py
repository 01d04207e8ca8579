"""Writing files and folders so that a reader sees the old or the new, never a half."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Render JSON the one way this package writes it to files."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def write_file(path: Path, content: bytes) -> None:
    """Write a file through a temporary sibling and a rename.

    Raises:
        OSError: The folder is missing or not writable; nothing is left behind then.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with exactly these files in place, through a temporary sibling and a rename.

    Args:
        folder: Where it has to be; what stands there is replaced.
        files: Content by file name.

    Raises:
        OSError: The parent is missing or not writable.
    """
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fresh = temporary / "new"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        if folder.exists():
            # A folder cannot be renamed onto one that has files: move the old one aside first.
            folder.rename(temporary / "old")
        fresh.rename(folder)
    finally:
        shutil.rmtree(temporary)
