"""What one engine alone answers, found out before anything else is deployed: it takes the ports of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness import engines, paths, reference
from pyharness.case import TrialName
from pyharness.lifecycle import deploying, teardown

if TYPE_CHECKING:
    from pyharness.lifecycle.run import Run


def method(run: Run) -> str:
    """Return how the reference answer is found here: the inventory may name another way than the test case.

    Raises:
        UsageError: it names none that there is.
    """
    first = run.nodes.names(run.case.nodes)[0]
    return reference.method(run.case, lambda name: run.options.extra_vars.get(name) or run.nodes.variable(first, name))


def answer(run: Run, found_by: str, model: str) -> dict[str, Any] | None:
    """Return what one engine alone answers; None where provisioning finds it out, or nothing is compared.

    Args:
        run: the run.
        found_by: the method.
        model: the model that answers.

    Raises:
        GiveUp: the engine alone cannot be deployed.
    """
    if found_by == "recorded":
        return reference.recorded(run.case, model)
    if found_by != "single_engine":
        return None
    alone_as = f"{run.run_id}-single"
    names = {"disagg_run": alone_as, "test_case": run.case.test_case}
    with run.phase("reference", model):
        run.single_runs.append(alone_as)
        alone = deploying.deploy(run, "single_engine.yml", TrialName(model, None), "reference", **names)
        run.report.timing.engine_start += alone.ready_at - alone.started_at
        answered = reference.ask_single_engine(alone, run.case, engines.engine(run.case.engine))
        teardown.take_down(run, alone_as, f"reference-teardown-{paths.slug(model)}")
        run.single_runs.remove(alone_as)
    return answered
