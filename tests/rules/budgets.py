"""How long each suite took, against the budget of its type, and the slowest ten tests. Told, never judged.

A suite is one module of tests. The budgets are those of Dynamo's testing guidelines. The machine's mood is part of
every time, so one over budget is a line in the report (and a warning on GitHub), and no failure.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import github
from pyharness.case import TYPES

if TYPE_CHECKING:
    from collections.abc import Generator

SCHEMA_VERSION = 1
# Seconds that a suite of a type may take; of e2e only what runs before a merge counts.
BUDGETS = {"unit": 15.0, "integration": 300.0, "e2e": 900.0}
SLOWEST = 10
_KEY = pytest.StashKey["Times"]()


@dataclass
class Suite:
    """The tests of one type in one module. `seconds` has what their fixtures took, `counted` what the budget is for."""

    name: str
    type: str
    tests: int = 0
    seconds: float = 0.0
    counted: float = 0.0

    @property
    def budget(self) -> float | None:
        """Seconds that it may take; None where there is no limit."""
        return BUDGETS.get(self.type)

    @property
    def over(self) -> bool:
        """Whether it took longer."""
        return self.budget is not None and self.counted > self.budget


@dataclass
class Times:
    """Seconds of a session, by test and by suite."""

    began: float
    tests: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    suites: dict[tuple[str, str], Suite] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """Add what one phase of a test took: its fixtures' beginning, itself, or their end."""
        name, type_ = report.nodeid.partition("::")[0], getattr(report, "test_type", "none")
        suite = self.suites.setdefault((name, type_), Suite(name, type_))
        suite.tests += report.nodeid not in self.tests
        suite.seconds += report.duration
        suite.counted += report.duration if type_ != "e2e" or getattr(report, "before_merge", False) else 0.0
        self.tests[report.nodeid] += report.duration

    @property
    def slowest(self) -> list[tuple[str, float]]:
        """The slowest tests."""
        return sorted(self.tests.items(), key=lambda entry: (-entry[1], entry[0]))[:SLOWEST]

    @property
    def over(self) -> list[Suite]:
        """The suites that took longer than they may, the worst first."""
        return sorted((suite for suite in self.suites.values() if suite.over), key=lambda suite: -suite.counted)

    @property
    def folders(self) -> dict[str, float]:
        """Seconds of all suites of a folder."""
        result: dict[str, float] = defaultdict(float)
        for suite in self.suites.values():
            result[str(Path(suite.name).parent)] += suite.seconds
        return dict(sorted(result.items()))

    def to_json(self) -> dict[str, Any]:
        """Return it as a program reads it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "seconds": round(time.time() - self.began, 3),
            "budgets": BUDGETS,
            "folders": {name: round(seconds, 3) for name, seconds in self.folders.items()},
            "suites": [
                {
                    "suite": suite.name,
                    "type": suite.type,
                    "tests": suite.tests,
                    "seconds": round(suite.seconds, 3),
                    "counted": round(suite.counted, 3),
                    "budget": suite.budget,
                    "over": suite.over,
                }
                for suite in sorted(self.suites.values(), key=lambda suite: (-suite.seconds, suite.name))
            ],
            "slowest": [{"test": name, "seconds": round(seconds, 3)} for name, seconds in self.slowest],
        }


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[_KEY] = Times(time.time())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give each report its test's type, for who counts: under xdist that is another process, without the markers."""
    report = yield
    marked = {marker.name for marker in item.iter_markers()}
    type_ = next((type_ for type_ in TYPES if type_ in marked), "none")
    vars(report).update(test_type=type_, before_merge="pre_merge" in marked)
    return report


class _Counter:
    """Counts what the session, or under xdist its workers, report."""

    def __init__(self, times: Times) -> None:
        self._times = times

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._times.add(report)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Take the reports of the whole session."""
    session.config.pluginmanager.register(_Counter(session.config.stash[_KEY]), "disagg-times")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the times, and write them down for a program."""
    times = config.stash[_KEY]
    if not times.tests:
        return
    written = _write(config, times)
    tell = terminalreporter.write_line
    terminalreporter.section("times")
    for type_, budget in BUDGETS.items():
        suites = [suite for suite in times.suites.values() if suite.type == type_]
        if suites:
            longest = max(suites, key=lambda suite: suite.counted)
            tell(
                f"{type_}: {sum(suite.seconds for suite in suites):.1f} s in {len(suites)} suites; the longest "
                f"{longest.name}, {longest.counted:.1f} s of {budget:.0f} s"
            )
    for folder, seconds in times.folders.items():
        tell(f"{folder}: {seconds:.1f} s")
    for suite in times.over:
        told = f"{suite.name}: {suite.counted:.1f} s, and a suite of type {suite.type} has {suite.budget:.0f} s"
        tell(f"OVER BUDGET {told}", yellow=True)
        if github.active():
            tell(f"::warning title=Over its budget::{told.replace('%', '%25')}")
    tell(f"slowest {len(times.slowest)} of {len(times.tests)} tests:")
    for name, seconds in times.slowest:
        tell(f"{seconds:8.2f} s  {name}")
    tell(f"all times: {written}")


def _write(config: pytest.Config, times: Times) -> Path:
    """Write run/tests/times[-WHAT].json, named by what was asked for, so that one session spares another's."""
    asked = [os.path.relpath(argument.partition("::")[0], config.rootpath) for argument in config.args]
    what = re.sub(r"[^\w.-]+", "-", "-".join(asked)).strip("-.")
    folder = config.rootpath / "run" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"times{f'-{what[:100]}' if what else ''}.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(times.to_json(), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path.relative_to(config.rootpath)
