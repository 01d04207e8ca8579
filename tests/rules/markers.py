"""The markers that every test has to have, and what selecting by them means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness.case import HARDWARE, TYPES
from pyharness.stages import STAGES, with_later

if TYPE_CHECKING:
    from collections.abc import Generator

COMPONENTS = ("harness", "ansible", "simulator", "model", "sglang", "vllm", "mooncake", "router", "dynamo")
CATEGORIES = {"lifecycle": STAGES, "type": TYPES, "hardware": HARDWARE, "component": COMPONENTS}
# Of a component there may be several; the rest says one thing of a test.
_SEVERAL = ("component",)


def _wrong(item: pytest.Item) -> str | None:
    """Say which categories have no marker on a test, or one too many, and what to do; None if all is well."""
    has = {marker.name for marker in item.iter_markers()}
    lacks = {category: names for category, names in CATEGORIES.items() if has.isdisjoint(names)}
    if lacks:
        advice = ", ".join(f"one of {'/'.join(names)}" for names in lacks.values())
        return f"{item.nodeid}: no marker of category {', '.join(lacks)}; add {advice}"
    for category, names in CATEGORIES.items():
        found = [name for name in names if name in has]
        if len(found) > 1 and category not in _SEVERAL:
            advice = f"keep {found[0]}, the earliest stage" if category == "lifecycle" else "keep one"
            return f"{item.nodeid}: {' and '.join(found)} are both of category {category}; {advice}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a test without its markers an error of collection, so that no test runs while one could be overlooked."""
    del collector
    report = yield
    lines = [line for item in report.result or () if isinstance(item, pytest.Item) if (line := _wrong(item))]
    if lines:
        report.outcome, report.result = "failed", []
        report.longrepr = "\n".join(lines)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test be selected by each stage that it runs in: by that of its marker, and by all later ones."""
    marked = {marker.name for marker in item.iter_markers()}
    for stage in sorted(with_later(marked) - marked, key=STAGES.index):
        item.add_marker(stage)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Leave nothing to run where collection failed: pytest stops there by itself, and pytest-xdist does not."""
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        items.clear()
