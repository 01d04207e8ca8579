"""A log file per test: run/tests/<node id as a path>/test.log.txt, with what it logged and printed.

Of a test that failed, and of each that is more than a unit test. Written by the process that gets all reports, so also
where xdist's workers run the tests. Without secrets, and kept small: of a long one the middle is left out.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING

from pyharness import redaction

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAME = "test.log.txt"
MAX_CHARACTERS = 256 * 1024
_LONGEST_NAME = 120


def path_of(nodeid: str) -> str:
    """Return a node id as the path of a folder: each part of it a name that every file system takes."""
    return "/".join(_plain(part) for part in nodeid.replace("::", "/").split("/") if part not in ("", ".", ".."))


def _plain(part: str) -> str:
    name = re.sub(r"[^\w.,=+\[\]-]", "_", part)
    if name == part and len(name) <= _LONGEST_NAME:
        return name
    # Two parameters that differ only in what is replaced or cut have folders of their own.
    digest = hashlib.sha256(part.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[:_LONGEST_NAME]}-{digest}"


class _Writer:
    """Gathers the reports of each test, and writes them when its last one has come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, list[pytest.TestReport]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reports = self._open.setdefault(report.nodeid, [])
        reports.append(report)
        if report.when == "teardown":
            del self._open[report.nodeid]
            self._write(report.nodeid, reports)

    def pytest_sessionfinish(self) -> None:
        """Write what a test has left whose process died, or was interrupted."""
        for nodeid, reports in self._open.items():
            self._write(nodeid, reports)

    def _write(self, nodeid: str, reports: list[pytest.TestReport]) -> None:
        folder = self._folder / path_of(nodeid)
        failed = any(report.failed for report in reports)
        if not failed and getattr(reports[0], "test_type", "unit") == "unit":
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier session, in which it failed
            return
        folder.mkdir(parents=True, exist_ok=True)
        text = shortened(redaction.redact(_text(nodeid, reports)))
        (folder / NAME).write_text(text, encoding="utf-8", errors="backslashreplace")


def _text(nodeid: str, reports: list[pytest.TestReport]) -> str:
    lines = [nodeid]
    for report in reports:
        lines.append(f"{report.when}: {report.outcome}, {report.duration:.3f} s")
        if report.longrepr and not report.passed:
            lines.append(report.longreprtext)
    # Each report has what was captured up to it.
    for name, content in reports[-1].sections:
        lines += [f"--- {name} ---", content.rstrip("\n")]
    return "\n".join([*lines, ""])


def shortened(text: str) -> str:
    """Return a text without its middle where it is too long."""
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def pytest_configure(config: pytest.Config) -> None:
    """Write logs where all reports come together: not in a worker of xdist."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(config.rootpath / "run" / "tests"), "disagg-test-logs")
