"""What the nodes say when a run is not going to pass, asked while everything is still up."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pyharness import collect

if TYPE_CHECKING:
    from pyharness.lifecycle.run import Run

FOLDER = "diagnosis"


def diagnose(run: Run) -> None:
    """Ask the nodes, unless the run has gone well so far, never came to its nodes, or they have been asked already.

    Args:
        run: the run. Neither its verdict nor its teardown depends on what comes of this.
    """
    folder = run.folder.logs / FOLDER
    well = run.report.judge() == "pass" and not run.interrupt.is_set()
    if well or not run.touched_nodes or run.diagnosed:
        return
    run.diagnosed = True
    shutil.rmtree(folder, ignore_errors=True)  # of the run that this one goes on with
    run.options.tell("collect")
    collect.collect(run.playbooks, run.variables(), folder, run.options.tell)
