"""Look up the text files below a directory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: tree
short_description: The text files below a directory of the controller, as one mapping
description:
  - Returns one mapping of relative path to text per directory, so that a module can take a small tree as one
    argument instead of one copy task per file.
options:
  _terms:
    description: Directories; one that does not exist gives an empty mapping.
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See what is there
  ansible.builtin.debug:
    msg: "{{ lookup('disagg.e2e.tree', role_path ~ '/files') }}"
"""

RETURN = r"""
_raw:
  description: A mapping of relative path to text per directory.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_options: Any) -> list[dict[str, str]]:
        """Read the trees.

        Args:
            terms: the directories.
            variables: not used.
        """
        del variables
        return [_read(Path(term)) for term in terms]


def _read(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
