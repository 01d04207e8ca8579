"""Hold the scenarios' tests to the same rule as all others: four markers each."""

from __future__ import annotations

from tests.conftest import pytest_collection_modifyitems, pytest_make_collect_report

__all__ = ["pytest_collection_modifyitems", "pytest_make_collect_report"]
