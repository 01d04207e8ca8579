"""What a person, or a program, is told of a run at its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyharness.options import Options
    from pyharness.results import ModelResult, Report


def as_json(report: Report, _options: Options) -> str:
    """Return the report for a program."""
    return json.dumps(report.to_json(), indent=2) + "\n"


def as_text(report: Report, options: Options) -> str:
    """Return the failures, and the verdict in one line.

    Args:
        report: what came of the run.
        options: what was asked for.
    """
    expected = {model.trial for model in report.models if model.expected}
    lines = []
    for failure in report.failures:
        about = f" ({failure.trial})" if failure.trial else ""
        known = "known, " if failure.known else "expected, " if failure.trial in expected else ""
        lines.append(f"{known}{failure.class_}: {failure.check}{about}: {failure.evidence}\n  -> {failure.hint}")
    simulated = "; simulated engine: says nothing about a product" if report.simulated else ""
    where = options.results / report.test_case / "report.json"
    lines.append(
        f"{_verdict(report)} {report.test_case}: {tally(report.models)}{_transport(report)}, "
        f"{report.timing.total:.1f} s"
        f"{simulated}; {where}"
    )
    for seen in report.known_defects:
        if seen.state == "gone" and seen.found_version != seen.version:
            told = f"a defect of {seen.package} {seen.version} does not show with {seen.found_version}: {seen.reason}"
            lines.insert(-1, f"note: {seen.check} ({seen.trial}): {told}")
    if options.keep:
        lines.append(f"left up; end it with: python -m pyharness teardown --run {report.run_id}")
    return "\n".join(lines) + "\n"


def refusal(report: Report) -> str | None:
    """Return what the caller has to correct, where that is all that came of a run; None where something was deployed.

    Args:
        report: what came of it.
    """
    begun = {phase.name for phase in report.phases} - {"provision", "teardown"}
    first = report.failures[0] if report.failures else None
    if first is None or begun or first.class_ != "configuration":
        return None
    return f"-i {report.inventory}: {first.evidence}; {first.hint}"


def _verdict(report: Report) -> str:
    """Return the verdict in capitals, and what stands beside it."""
    word, _space, beside = report.told_verdict.partition(" ")
    return f"{word.upper()} {beside}".rstrip()


def _transport(report: Report) -> str:
    """Say what carried the data; nothing for a case that does not look at it."""
    used, looked_at = report.transport.used, bool(report.transport.evidence)
    if used is None:
        return ", transport not known" if looked_at or report.verdict == "error" else ""
    return f", {'KV cache' if any(trial.name for trial in report.models) else 'data'} over {used}"


def tally(trials: list[ModelResult]) -> str:
    """Say how many trials passed, and how many went as expected without passing."""
    passed = sum(1 for trial in trials if trial.verdict == "pass")
    what = "trials" if any(trial.variant for trial in trials) else "models"
    if not any(trial.name or trial.variant for trial in trials):
        what = "deployment" if len(trials) == 1 else "deployments"
    parts = [f"{passed} of {len(trials)} {what} passed"]
    for kind, told in (
        ("unsupported", "unsupported here"),
        ("failure", "known to fail"),
        ("known_defect", "failed by known defects alone"),
    ):
        count = sum(1 for trial in trials if trial.expected and trial.expected.kind == kind)
        parts += [f"{count} {told}"] if count else []
    return ", ".join(parts)
