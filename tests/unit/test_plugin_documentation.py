"""What plugins of the collection say of themselves can be read by ansible-doc: a slip shows nowhere else."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
import yaml

from pyharness import paths

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

PLUGINS = paths.COLLECTION / "plugins"
MODULES = sorted((PLUGINS / "modules").glob("*.py"))
OTHERS = sorted([*(PLUGINS / "filter").glob("*.py"), *(PLUGINS / "lookup").glob("*.py")])


def documents(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }


@pytest.mark.parametrize("path", [*MODULES, *OTHERS], ids=lambda path: path.stem)
def test_a_plugin_can_be_looked_up(path: Path) -> None:
    found = {name: yaml.safe_load(text) for name, text in documents(path).items()}
    assert set(found) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    about = found["DOCUMENTATION"]
    assert path.stem in (about.get("module"), about.get("name"))
    assert isinstance(found["EXAMPLES"], list)
    assert isinstance(found["RETURN"], dict)
