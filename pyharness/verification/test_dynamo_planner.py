"""Verification of test_dynamo_planner: from 10 to 20 requests per second, from 1P1D to 2P1D.

Variant `scaling` does what the planner would, by its documented parts; variant `planner` starts the planner itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification.dynamo import deployed, planner, planner_program

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial

OF_VARIANT = {
    "scaling": ("replicas_at_first", "replicas_at_twice_the_load", "decision_handed_over", "load_relieved"),
    "planner": ("planner_runs",),
}
CHECKS = (*deployed.CHECKS, *OF_VARIANT["scaling"], *OF_VARIANT["planner"])


def verify(trial: Trial) -> bool:
    """Check what runs, and wait until every worker answers."""
    return deployed.ready(trial, (*deployed.CHECKS, *OF_VARIANT[str(trial.deployment.variant)]))


def exercise(trial: Trial) -> None:
    """Load, count, scale, and load again; or start the planner."""
    if trial.deployment.variant == "planner":
        trial.recorder.run("planner_runs", lambda: planner_program.planner_runs(trial))
        return
    load, run = trial.workload, trial.recorder.run
    low, high = (float(rate) for rate in load["rates"])
    lone: list[planner.Lone] = []
    seen: dict[float, planner.Load] = {}

    def at(rate: float, prefill: int) -> Evidence:
        if not lone:
            lone.append(planner.lone_requests(trial))
        seen[rate] = planner.load_of(trial, rate, float(load["seconds"]))
        return planner.as_expected(seen[rate], lone[0], prefill, 1)

    run("replicas_at_first", lambda: at(low, 1))
    run("replicas_at_twice_the_load", lambda: at(high, 2))
    if high not in seen:
        trial.skip(("decision_handed_over", "load_relieved"), "there was no load to relieve")
        return
    if not run("decision_handed_over", lambda: planner_program.scaled(trial)):
        trial.skip(("load_relieved",), "no worker has joined")
        return
    run(
        "load_relieved",
        lambda: planner.relieved(
            seen[high], planner.load_of(trial, high, float(load["seconds"])), float(load["ttft_seconds"])
        ),
    )


__all__ = ["CHECKS", "exercise", "verify"]
