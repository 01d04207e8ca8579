"""The first phases: have the nodes to ourselves, and have on them what the test case needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import unfinished

if TYPE_CHECKING:
    from pyharness.lifecycle.run import Run

PROVISION_SECONDS = 45 * 60


def take_nodes(run: Run) -> None:
    """Know the nodes, and note on this machine that the run is at work on them.

    Raises:
        UsageError: the inventory is no good.
    """
    run.nodes.load()
    run.nodes.names(run.case.nodes)
    for story in unfinished.stories(run.options.inventory):
        run.options.tell(story)
    run.remember()


def provision(run: Run) -> None:
    """Have environment, wheel and models on the nodes, unless the run that this one goes on with has seen to it.

    Raises:
        GiveUp: a node cannot take the run.
        Interrupted: the run is to end.
    """
    if run.earlier and run.earlier.has_done("provision", None, run.inputs.of("provision")):
        run.options.tell("provision  (done before, and nothing that it depends on has changed)")
        return
    with run.phase("provision"):
        run.touched_nodes = True
        outcome = run.playbooks.run(
            f"{run.case.test_case}.yml",
            run.variables(),
            label="provision",
            tags="provision",
            timeout=PROVISION_SECONDS,
        )
        run.play("provision", outcome)
