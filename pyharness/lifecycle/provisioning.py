"""The first phases: have the nodes to ourselves, and have on them what the test case needs."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyharness import ahead, facts, unfinished, unreachable
from pyharness.lifecycle import deploying, teardown
from pyharness.lifecycle.run import GiveUp, failure
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from pyharness.case import TrialName
    from pyharness.lifecycle.run import Run
    from pyharness.results import Failure

PROVISION_SECONDS = 45 * 60


def take_nodes(run: Run) -> None:
    """Know the nodes, lease them, and note on this machine that the run is at work on them.

    Raises:
        UsageError: the inventory is no good, or another run has a node.
        GiveUp: a node cannot be reached, or nothing can be run on it.
        Interrupted: the run is to end.
    """
    run.nodes.load()
    names = run.nodes.names(run.case.nodes)
    for story in unfinished.stories(run.options.inventory, run.run_id):
        run.options.tell(story)
    # Before: a harness that is killed between the two would leave leases of which nobody on this machine knows.
    run.remember()
    try:
        run.leases.take(names, run.options.wait, run.interrupt.is_set)
    except NodeError as error:
        run.report.failures.append(_unreached(error))
        raise GiveUp from error
    run.interrupt.check()


def _unreached(error: NodeError) -> Failure:
    """Explain, as of a playbook, why a node could not be asked for its lease, which is the first that it is asked."""
    cause, remedy = unreachable.explain(error.reason)
    told = "cannot be worked on" if re.search("sudo|Python", cause) else "cannot be reached"
    seen = failure("infrastructure", "lease", f"{error.node} {told}: {cause}", remedy.replace("NODE", error.node))
    return seen.model_copy(update={"unfit_node": error.node, "rule": "ansible.unreachable"})


def clean_up_after_the_dead(run: Run) -> None:
    """End what runs have left on the nodes whose harness is gone, and nothing else.

    Raises:
        GiveUp: something of them cannot be ended.
        Interrupted: the run is to end.
    """
    for number, dead in enumerate(sorted(run.leases.leftovers)):
        with run.timed("clean up"):
            run.options.tell(f"  run {dead} has ended without cleaning up here; what it left is ended")
            outcome = teardown.take_down(run, dead, f"dead-run-teardown-{number}")
            if not outcome.ok:
                raise GiveUp
            unfinished.forget(dead)


def provision(run: Run, first: TrialName | None = None) -> None:
    """Have environment, wheel and models on the nodes, unless the run that this one goes on with has seen to it.

    Args:
        run: the run.
        first: what is deployed next, and may be at once: the run then has it (`Run.ahead`), also where it did not come
            up. None where something else comes before.

    Raises:
        GiveUp: a node cannot take the run.
        Interrupted: the run is to end.
    """
    if run.earlier and all(result.checks for result in run.report.models):
        return  # nothing is to be deployed any more
    done = run.earlier and run.earlier.has_done("provision", None, run.inputs.of("provision"))
    if done and facts.are_known(run.run_id):
        run.options.tell("provision  (done before, and nothing that it depends on has changed)")
        return
    ahead.load_for_the_end()
    playbook = f"{run.case.test_case}.yml"
    if first is not None:
        _provision_and_deploy(run, playbook, first)
        return
    with run.phase("provision"):
        run.touched_nodes = True
        outcome = run.playbooks.run(
            playbook, run.variables(), label="provision", tags="provision", timeout=PROVISION_SECONDS
        )
        run.play("provision", outcome)


def _provision_and_deploy(run: Run, playbook: str, first: TrialName) -> None:
    try:
        with ExitStack() as phases:

            def deploy_begins() -> None:
                phases.close()
                phases.enter_context(run.phase("deploy", str(first)))
                run.ahead[first] = None

            phases.enter_context(run.phase("provision"))
            run.touched_nodes = True
            run.ahead[first] = deploying.provision_and_deploy(run, playbook, first, PROVISION_SECONDS, deploy_begins)
    except GiveUp:
        # What it means that a trial did not come up is seen when its turn comes: its declaration may expect that.
        if first not in run.ahead:
            raise
