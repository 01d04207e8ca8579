"""The markers that every test has to have. Fixtures belong to the folders that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

CATEGORIES = {
    "lifecycle": ("pre_merge", "post_merge", "nightly", "weekly", "release"),
    "type": ("unit", "integration", "e2e", "benchmark", "stress"),
    "hardware": ("gpu_0", "gpu_1", "gpu_2", "gpu_4", "gpu_8"),
    "component": ("harness", "ansible", "simulator", "model", "sglang", "vllm", "mooncake", "router"),
}


def _lacking(item: pytest.Item) -> str | None:
    """Say which categories have no marker on a test, and what to add; None if all have."""
    has = {marker.name for marker in item.iter_markers()}
    lacks = {category: names for category, names in CATEGORIES.items() if has.isdisjoint(names)}
    if not lacks:
        return None
    advice = ", ".join(f"one of {'/'.join(names)}" for names in lacks.values())
    return f"{item.nodeid}: no marker of category {', '.join(lacks)}; add {advice}"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a test without its markers an error of collection, so that no test runs while one could be overlooked."""
    del collector
    report = yield
    lines = [line for item in report.result or () if isinstance(item, pytest.Item) if (line := _lacking(item))]
    if lines:
        report.outcome, report.result = "failed", []
        report.longrepr = "\n".join(lines)
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Leave nothing to run where collection failed: pytest stops there by itself, and pytest-xdist does not."""
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        items.clear()
