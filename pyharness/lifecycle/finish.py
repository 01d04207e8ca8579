"""The end of a run: judge it, and write its results in all their forms."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pyharness import classification, facts, results, wheel_source
from pyharness.lifecycle.run import failure

if TYPE_CHECKING:
    from pyharness.errors import UsageError
    from pyharness.lifecycle.run import Run

_MAKE_ROOM = "make room on this machine (df -h, df -i), or name another folder (--results), and run again"
# With less than this left on the disk of the results nobody can say what could still be written.
_ROOM_BYTES = 64 * 1024


def finish(run: Run, error: UsageError | None = None) -> None:
    """Judge a run and write its results.

    Args:
        run: the run.
        error: what the caller asked for and could not have.
    """
    _put_first_what_ended_it(run, error)
    report = run.report
    report.finished_at = results.now()
    earlier = run.earlier.seconds if run.earlier else 0.0
    report.timing.sum_up(earlier + time.monotonic() - run.started, report.timeline)
    report.timeline.sort(key=lambda event: event.at)
    with suppress(OSError):  # told below, where all of it is written
        run.folder.write_deployments([entry.model_dump(mode="json") for entry in run.deployed])
    classification.explain(report, run.folder.root, run.case)
    _put_first_that_there_is_no_room(run)
    report.judge()
    try:
        _write(run)
    except OSError as problem:
        # What stands in the folder is the unfinished result of the beginning, which is an error too.
        told = f"{problem.strerror}: {problem.filename or run.folder.root}"
        report.failures.insert(0, failure("infrastructure", "results", told, _MAKE_ROOM))
        report.judge()
        with suppress(OSError):
            run.folder.write(report)
    with suppress(OSError):
        run.journal.note("finished", verdict=report.verdict)
    if report.verdict == "pass" and not run.options.keep:
        facts.forget(run.run_id)
    from pyharness import publishing  # noqa: PLC0415 (loaded while Ansible works: ahead.load_for_the_end)

    publishing.publish(run.folder.root, report, run.options.inventory, run.options.tell)


def _put_first_what_ended_it(run: Run, error: UsageError | None) -> None:
    failures = run.report.failures
    if run.interrupt.signal_name:
        at = next((phase.name for phase in reversed(run.report.phases) if phase.name != "teardown"), "start")
        told = f"{run.interrupt.signal_name} ended the run in phase {at}"
        failures.insert(0, failure("test", "interrupted", told, "run it again, or go on with it: --resume"))
    if run.leases.lost:
        told = "a harness that sleeps for longer than disagg_lease_ttl loses its nodes; see who has them: doctor"
        if run.leases.silent:
            told = f"see whether {run.leases.silent} is up, and what lies between"
        lost = failure("infrastructure", "lease", run.leases.lost, told)
        failures.insert(0, lost.model_copy(update={"unfit_node": run.leases.silent}))
    if error is not None:
        failures.insert(0, failure("configuration", "usage", str(error), "correct it and run again"))


def _put_first_that_there_is_no_room(run: Run) -> None:
    """Say so where a run fails on a full disk: Ansible and others tell of anything but that."""
    failures, folder = run.report.failures, run.folder.root
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if failures and free < _ROOM_BYTES and os.strerror(errno.ENOSPC) not in failures[0].evidence:
        told = f"{os.strerror(errno.ENOSPC)}: {folder} ({free // 1024} KiB are free)"
        failures.insert(0, failure("infrastructure", "results", told, _MAKE_ROOM))


def _write(run: Run) -> None:
    run.folder.write(run.report)
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
