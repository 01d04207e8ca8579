"""One summary of several runs: for a person at the terminal, for a browser, and for CI."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from pyharness import html_report
from pyharness.html_report import style
from pyharness.results import now
from pyharness.results_dir import junit_suite, write_atomically
from pyharness.verdict_lines import tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyharness.results import Report

SCHEMA_VERSION = 1
# A sign for each outcome: colour alone tells nothing to who cannot see it.
_SIGNS = {"pass": "✓", "fail": "✗", "error": "!", "flaky": "~", "unsupported": "-"}


def only_unsupported(report: Report) -> bool:
    """Tell whether a test case ended in an error for the one reason that its platform cannot run any of it."""
    refused = bool(report.failures) and all(failure.class_ == "unsupported" for failure in report.failures)
    return report.verdict == "error" and refused


def outcome(report: Report) -> str:
    """Return the verdict in a word: pass, fail, error or unsupported."""
    return "unsupported" if only_unsupported(report) else report.verdict


def write(results: Path, reports: Sequence[Report], names: Sequence[str]) -> None:
    """Write summary.json, summary.html and junit.xml, each whole or not at all.

    Args:
        results: the folder that holds one folder per test case.
        reports: what came of the test cases so far.
        names: all that are to run.
    """
    document = _document(reports, names)
    write_atomically(results / "summary.json", json.dumps(document, indent=2) + "\n")
    suites = ET.Element("testsuites", name="disagg-e2e", time=f"{document['seconds']:.3f}")
    suites.extend(junit_suite(report) for report in reports)
    for attribute in ("tests", "failures", "errors"):  # readers know no count of the skipped here
        suites.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in suites)))
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"
    write_atomically(results / "junit.xml", text)
    page = {**document, "signs": _SIGNS, "pages": {name: _page(results, name) for name in names}}
    write_atomically(results / "summary.html", style.template("summary.html.j2").render(page))


def _page(results: Path, name: str) -> str:
    """Return what a test case's name leads to: its page, or its report where that could not be made."""
    there = (results / name / html_report.NAME).exists()
    return f"{name}/{html_report.NAME if there else 'report.json'}"


def _document(reports: Sequence[Report], names: Sequence[str]) -> dict[str, Any]:
    outcomes = [outcome(report) for report in reports]
    return {
        "schema_version": SCHEMA_VERSION,
        "written_at": now(),
        "inventory": reports[0].inventory,
        "seconds": round(sum(report.timing.total for report in reports), 3),
        "counts": {word: outcomes.count(word) for word in ("pass", "fail", "error", "unsupported")},
        "to_come": list(names[len(reports) :]),
        "test_cases": [_entry(report) for report in reports],
    }


def _entry(report: Report) -> dict[str, Any]:
    return {
        "test_case": report.test_case,
        "run_id": report.run_id,
        "outcome": outcome(report),
        "verdict": report.verdict,
        "simulated": report.simulated,
        "seconds": report.timing.total,
        "engine_start_seconds": report.timing.engine_start,
        "transport": report.transport.used,
        "tally": tally(report.models),
        "known_defects": [seen.model_dump() for seen in report.known_defects],
        "trials": [
            {
                "trial": trial.trial,
                "verdict": trial.verdict,
                "expected": trial.expected.model_dump() if trial.expected else None,
                "checks": {check.id: check.status for check in trial.checks},
            }
            for trial in report.models
        ],
        "failures": [failure.model_dump(mode="json", by_alias=True) for failure in report.failures],
        "report": f"{report.test_case}/report.json",
    }


def as_text(reports: Sequence[Report], results: Path) -> str:
    """Return the summary for a terminal: a line per test case, and what the first failure was.

    Args:
        reports: what came of each.
        results: where the files lie.
    """
    width = max(len(report.test_case) for report in reports)
    lines = [""]
    for report in reports:
        reason = ""
        if report.verdict == "pass" and report.defects_shown:
            reason = f"; {report.told_verdict.partition(' ')[2]}"
        elif report.verdict != "pass" and report.failures:
            first = report.failures[0]
            reason = f"; {first.class_}: {first.check}: {first.evidence.splitlines()[0][:160]}"
        lines.append(
            f"{outcome(report).upper():<11} {report.test_case:<{width}} {report.timing.total:7.1f} s  "
            f"{tally(report.models)}{reason}"
        )
    total = sum(report.timing.total for report in reports)
    counts = _document(reports, [report.test_case for report in reports])["counts"]
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    lines.append(f"{len(reports)} test cases in {total:.1f} s: {told}; {results / 'summary.html'}")
    return "\n".join(lines) + "\n"
