"""The end of a run: judge it, and write its results in all their forms."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pyharness import durations, results, wheel_source
from pyharness.lifecycle.run import FACTS, failure

if TYPE_CHECKING:
    from pyharness.errors import UsageError
    from pyharness.lifecycle.run import Run


def finish(run: Run, error: UsageError | None = None) -> None:
    """Judge a run and write its results.

    Args:
        run: the run.
        error: what the caller asked for and could not have.
    """
    run.playbooks.close()
    _put_first_what_ended_it(run, error)
    report = run.report
    report.finished_at = results.now()
    earlier = run.earlier.seconds if run.earlier else 0.0
    report.timing.sum_up(earlier + time.monotonic() - run.started)
    report.timeline.sort(key=lambda event: event.at)
    report.judge()
    _write(run)
    with suppress(OSError):
        run.journal.note("finished", verdict=report.verdict)
    if report.verdict == "pass" and not run.options.keep:
        shutil.rmtree(run.folder.root / FACTS, ignore_errors=True)
    if not run.options.models and not run.options.variants and not run.earlier:
        durations.remember(report, run.options.inventory)


def _put_first_what_ended_it(run: Run, error: UsageError | None) -> None:
    failures = run.report.failures
    if run.interrupt.signal_name:
        at = next((phase.name for phase in reversed(run.report.phases) if phase.name != "teardown"), "start")
        told = f"{run.interrupt.signal_name} ended the run in phase {at}"
        failures.insert(0, failure("test", "interrupted", told, "run it again, or go on with it: --resume"))
    if error is not None:
        failures.insert(0, failure("configuration", "usage", str(error), "correct it and run again"))


def _write(run: Run) -> None:
    wheel = run.deployed[-1].wheel if run.deployed else None
    run.folder.write_environment(
        {
            "test_case_name": run.case.test_case,
            "DISAGG_RUN_ID": run.run_id,
            "DISAGG_INVENTORY": str(run.options.inventory),
            # A URL may hold a secret in its query.
            "DISAGG_WHEEL": wheel.version if wheel else wheel_source.told(run.options.wheel or ""),
        }
    )
    run.folder.write_deployments([entry.model_dump(mode="json") for entry in run.deployed])
    run.folder.write(run.report)
