"""A project of pytester's that follows this project's rules for tests, or some of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PROJECT = Path(__file__).resolve().parents[2]
MARKS = ("pre_merge", "unit", "gpu_0", "harness")


def declared_markers() -> list[str]:
    """Return the markers that pyproject.toml declares."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return [marker.split(":")[0] for marker in settings["markers"]]


def make(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *rules: str) -> pytest.Pytester:
    """Make the project.

    Args:
        pytester: pytest's own.
        monkeypatch: changes the environment for it.
        rules: modules of tests/rules that it follows.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # loading others' plugins takes a second each time
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))  # of xdist's workers
    for name in ("GITHUB_ACTIONS", "CI", "DISAGG_E2E_REQUIRE", "DISAGG_E2E_BROWSER", "DISAGG_E2E_SEED"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(f"pytest_plugins = {[f'tests.rules.{rule}' for rule in rules]!r}\n")
    markers = "\n".join(f"    {name}" for name in declared_markers())
    pytester.makeini(f"[pytest]\naddopts = --strict-markers\nmarkers =\n{markers}\n")
    return pytester


def a_test(name: str, markers: tuple[str, ...] = MARKS, body: str = "pass") -> str:
    """Return the source of a test with its markers."""
    return "".join(f"@pytest.mark.{marker}\n" for marker in markers) + f"def {name}():\n    {body}\n\n"
