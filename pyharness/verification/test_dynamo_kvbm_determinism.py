"""Verification of test_dynamo_kvbm_determinism: the same prompt has the same output, before and after a cache reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification.dynamo import deployed, determinism

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

CHECKS = (
    *deployed.CHECKS,
    "output_identical",
    "comparison_can_fail",
    "cache_reset",
    "output_identical_after_reset",
    "output_survives_migration",
)


def verify(trial: Trial) -> bool:
    """Check what runs, and wait until every worker answers."""
    return deployed.ready(trial, CHECKS)


def exercise(trial: Trial) -> None:
    """Ask for the same many times, reset the caches, and ask again."""
    run = trial.recorder.run
    run("output_identical", lambda: determinism.output_identical(trial))
    simulated = determinism.simulated(trial)
    if simulated:
        run("comparison_can_fail", lambda: determinism.comparison_can_fail(trial))
    if run("cache_reset", lambda: determinism.cache_reset(trial)):
        run("output_identical_after_reset", lambda: determinism.output_identical(trial))
    else:
        trial.skip(("output_identical_after_reset",), "the caches were not reset")
    if simulated:
        run("output_survives_migration", lambda: determinism.output_survives_migration(trial))


__all__ = ["CHECKS", "exercise", "verify"]
