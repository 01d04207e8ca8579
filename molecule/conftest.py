"""Hold the scenarios' tests to the same rule as all others: four markers each."""

from __future__ import annotations

from tests.rules.markers import pytest_collection_modifyitems, pytest_itemcollected, pytest_make_collect_report

__all__ = ["pytest_collection_modifyitems", "pytest_itemcollected", "pytest_make_collect_report"]
