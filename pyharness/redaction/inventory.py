"""The secrets that stand in an inventory's files: known before Ansible reads them, and so before it can repeat one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 1 << 20
_NO_FILES = {".git", ".py", ".sh", ".cfg", ".md"}


class _Loader(yaml.SafeLoader):
    """Takes what it does not know, such as a value of ansible-vault, for nothing."""


_Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def variables(path: Path) -> dict[str, Any]:
    """Return what an inventory's files say, by file: YAML as it is built, anything else as its text.

    Args:
        path: the inventory, a file or a folder. What cannot be read is left out: that is for Ansible to tell.
    """
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        return {str(file): _content(file) for file in files if _holds_variables(file)}
    except (OSError, ValueError):
        return {}


def _holds_variables(file: Path) -> bool:
    return file.is_file() and file.suffix not in _NO_FILES and file.stat().st_size <= _LARGEST


def _content(file: Path) -> Any:
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        documents = list(yaml.load_all(text, _Loader))
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return text
    return text if all(isinstance(document, str | None.__class__) for document in documents) else [text, *documents]
