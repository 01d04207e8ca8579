"""The life of one run: provision, deploy, verify, exercise, tear down, and a verdict whatever happens."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyharness import case as cases
from pyharness import paths, refusals
from pyharness.errors import UsageError
from pyharness.lifecycle import diagnose, finish, provisioning, resume, teardown, trials
from pyharness.lifecycle.run import Run
from pyharness.results_dir import ResultsDir

if TYPE_CHECKING:
    from pyharness.options import Options
    from pyharness.results import Failure, Report

__all__ = ["refuse_case", "run_case"]


def run_case(options: Options) -> Report:
    """Run one test case from a clean node to a clean node.

    Args:
        options: what to do.

    Returns:
        the report, which is written to the results folder too, whatever its verdict.

    Raises:
        UsageError: what is asked for cannot be done. Where the test case is known, an error result is written first,
            so that no earlier Pass stays in place.
    """
    with paths.project_ansible():
        return _run_case(options)


def _run_case(options: Options) -> Report:
    try:
        case = cases.load(options.test_case)
    except UsageError as error:
        refusals.withdraw_one(options.test_case, options.results, error)
        raise
    earlier = resume.find(options.results / options.test_case) if options.resume else None
    folder = ResultsDir(options.results, options.test_case, goes_on=earlier is not None, kept=options.repeat)
    run = Run(options, case, folder, earlier)
    folder.begin(run.report)
    try:
        options.check(case)
        run.begin()
    except UsageError as error:
        finish.finish(run, error)
        raise
    with run.interrupt.armed():
        mistake = _live(run)
    if mistake is not None and not run.touched_nodes:
        raise mistake
    return run.report


def refuse_case(options: Options, failure: Failure) -> Report:
    """Leave an error result for a test case that is not begun, so that no earlier Pass stays in place.

    Args:
        options: what was to be done.
        failure: why it is not.

    Raises:
        UsageError: there is no such test case, or the results folder cannot be written.
    """
    case = cases.load(options.test_case)
    run = Run(options, case, ResultsDir(options.results, options.test_case))
    run.report.failures.append(failure)
    finish.finish(run)
    return run.report


def _live(run: Run) -> UsageError | None:
    """Do everything, and end in a written report.

    Returns:
        what the caller asked for and cannot have.
    """
    with ExitStack() as until_the_end:

        def deploy_and_verify() -> None:
            provisioning.take_nodes(run)
            until_the_end.enter_context(run.leases.kept_alive())
            provisioning.clean_up_after_the_dead(run)
            resume.make_ready(run)
            provisioning.provision(run, trials.first(run))
            trials.judge_all(run)

        error = run.guarded(deploy_and_verify)
        # While what it deployed is still up.
        run.guarded(lambda: diagnose.diagnose(run))
        if run.options.keep and not run.interrupt.is_set():
            error = run.guarded(run.leases.hold) or error
        else:
            error = run.guarded(lambda: teardown.tear_down(run)) or error
            run.leases.end()  # those that could not be given back
            # Of nodes that only teardown found not to be clean.
            run.guarded(lambda: diagnose.diagnose(run))
        finish.finish(run, error)
    return error
