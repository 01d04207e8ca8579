"""report.html: everything about one run on one page that needs no network and no other file.

The page is written piece by piece, so that hundreds of megabytes of logs need no memory. Whatever came from a node is
escaped by the template engine, and the page's own policy lets nothing run but the one script that belongs to it.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from pyharness import redaction
from pyharness.html_report import logs, page, style

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyharness.results import Report

NAME = "report.html"


def write(folder: Path, report: Report, green: Mapping[str, Any] | None = None) -> Path:
    """Write report.html, whole or not at all.

    Args:
        folder: the test case's results, RESULTS/<case>; its logs are taken from logs/ below it.
        report: what came of the run.
        green: report.json of the last run that passed; None if there is none.

    Returns:
        the page's path.

    Raises:
        OSError: it cannot be written, or a log cannot be read.
    """
    # Without any secret: the page is written as it is.
    report = type(report).model_validate(report.to_json())
    found = logs.collect(folder, [failure.line for failure in report.failures if failure.line])
    target = folder / NAME
    temporary = folder / f".{NAME}.{os.getpid()}"
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            parts = style.template("report.html.j2").generate(page.model(report, green, found))
            stream.writelines(part.encode("utf-8", "replace") for part in parts)
            stream.seek(0)
            with temporary.open("wb") as clean:
                redaction.copy(stream, clean, markup=True)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
