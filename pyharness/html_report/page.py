"""What is on the page of a run: the report's content in the order in which a person asks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyharness import changes
from pyharness.html_report import logs, timeline
from pyharness.verdict_lines import tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyharness.html_report.logs import Log
    from pyharness.results import Check, Failure, Report

# A verdict in words, and the sign that goes with its colour.
WORDS = {
    "pass": ("✓", "passed"),
    "fail": ("✗", "failed: the product is wrong"),
    "error": ("!", "error: the test could not judge"),
    "flaky": ("~", "flaky: it failed, and passed when it was repeated"),
}
_EVIDENCE = 64 * 1024  # characters of one check on the page; report.json has all
_EXCHANGES = "curl_response.log"  # of each trial, as sending.py names it


def model(report: Report, green: Mapping[str, Any] | None, found: Sequence[Log]) -> dict[str, Any]:
    """Return what the template shows.

    Args:
        report: what came of the run.
        green: report.json of the last run that passed, or None.
        found: the logs.
    """
    document = report.to_json()
    sign, words = WORDS.get(report.verdict, ("?", report.verdict))
    if report.defects_shown and report.verdict == "pass":
        words = f"{words}{report.told_verdict.removeprefix(report.verdict)}"
    causes = [failure for failure in report.failures if not failure.consequence and not failure.known]
    others = [failure for failure in report.failures if failure.consequence and not failure.known]
    first = causes.pop(0) if causes else others.pop(0) if others else None
    return {
        "report": report,
        "sign": sign,
        "words": words,
        "tally": tally(report.models),
        "first": _failure(first, found) if first else None,
        "causes": [_failure(failure, found) for failure in causes],
        "consequences": [_failure(failure, found) for failure in others],
        "timeline": timeline.draw(report),
        "width": timeline.WIDTH,
        "labels": timeline.LABELS,
        "trials": [
            {"trial": trial, "served": trial.served, "checks": [_check(check) for check in trial.checks]}
            for trial in report.models
        ],
        "faults": [{"trial": trial.trial, "it": fault} for trial in report.models for fault in trial.faults],
        "fault_steps": _pretty([fault for trial in document["models"] for fault in trial["faults"]]),
        "run_checks": [_check(check) for check in report.checks],
        "requests": [event for event in report.timeline if event.kind == "request"],
        "exchanges": [log for log in found if log.name.endswith(_EXCHANGES)],
        "transport": _pretty(document["transport"]["evidence"]),
        "facts": _facts(report),
        "artifacts": {name: value for name, value in report.artifacts.items() if value},
        "green": green,
        "changes": changes.between(green, document) if green else [],
        "timings": changes.timings(green, document) if green else [],
        "logs": found,
        "log_bytes": sum(log.size for log in found),
        "hidden_bytes": sum(log.hidden for log in found),
        "size": size,
    }


def size(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _failure(failure: Failure, found: Sequence[Log]) -> dict[str, Any]:
    """Return a failure with where its line is on the page; the rest of the evidence below its first line."""
    line = failure.line
    target = None
    if line is not None:
        log = next((log for log in found if log.anchor == logs.anchor(line.file)), None)
        on_page = {number for piece in log.pieces for number in piece.marks} if log else set()
        target = (logs.mark(line) if line.line in on_page else log.anchor) if log else None
    head, _newline, rest = failure.evidence.partition("\n")
    return {"it": failure, "head": head, "rest": rest, "target": target}


def _check(check: Check) -> dict[str, Any]:
    return {"it": check, "evidence": _pretty(check.evidence)}


def _pretty(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) > _EVIDENCE:
        text = f"{text[:_EVIDENCE]}\n… {len(text) - _EVIDENCE} characters more in report.json"
    return text


def _facts(report: Report) -> list[tuple[str, str]]:
    timing = report.timing
    return [
        ("Run", report.run_id),
        ("Began", report.started_at),
        ("Ended", report.finished_at or "not yet"),
        ("Inventory", report.inventory),
        ("Engine", ", ".join(str(value) for value in report.engine.values() if value)),
        ("Transport", f"{report.transport.used or 'not known'} (declared {report.transport.declared})"),
        ("Time", f"{timing.total:.1f} s"),
        ("Engines' start", f"{timing.engine_start:.1f} s"),
        ("Inference", f"{timing.inference:.1f} s"),
        ("All else", f"{timing.own:.1f} s"),
    ]
