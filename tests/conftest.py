"""The rules of this project's own tests (docs/testing.md). Fixtures belong to the folders that use them."""

from __future__ import annotations

pytest_plugins = [
    "tests.rules.markers",
    "tests.rules.requires",
    "tests.rules.seeds",
    "tests.rules.budgets",
    "tests.rules.logs",
    "tests.rules.offline",
]
