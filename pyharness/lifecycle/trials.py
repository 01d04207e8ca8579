"""The trials of a run, one after the other: deployed, verified, exercised, and held against what is expected."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import deployment as deployments
from pyharness import describe, engines, expectations, reference
from pyharness.lifecycle import deploying, references
from pyharness.lifecycle.run import GiveUp
from pyharness.sending import Sender
from pyharness.verification.base import Recorder, Trial

if TYPE_CHECKING:
    from pyharness.case import TrialName
    from pyharness.deployment import Deployment
    from pyharness.exercise import Exchange
    from pyharness.lifecycle.run import Run
    from pyharness.results import ModelResult


def judge_all(run: Run) -> None:
    """Try every trial that is not judged yet.

    Raises:
        GiveUp: one could not be judged, and so the next need not be tried.
        Interrupted: the run is to end.
        NodeError: a node cannot be asked.
    """
    wanted = [
        (trial, result)
        for trial, result in zip(run.trials, run.report.models, strict=True)
        if not _is_judged(run, result)
    ]
    # What is up already first: the next deployment takes its place.
    wanted.sort(key=lambda entry: _left_up(run, entry[0]) is None)
    method = references.method(run)
    models = {trial.model for trial, _result in wanted if trial.model and not _left_up(run, trial)}
    known = {model: references.answer(run, method, model) for model in run.models if model in models}
    for trial, result in wanted:
        try:
            _try_one(run, trial, result, method, known.get(trial.model or ""))
        except GiveUp:
            _settle(run, result)
            if result.expected is None:
                raise
        else:
            _settle(run, result)
        # Not judged yet as a whole, so it is still an error; but what a kill -9 leaves says how far it came.
        run.folder.write(run.report)


def _is_judged(run: Run, result: ModelResult) -> bool:
    """Tell whether the run that this one goes on with has judged a trial."""
    return bool(run.earlier and result.checks)


def _left_up(run: Run, trial: TrialName) -> Deployment | None:
    """Return the deployment of a trial that the run that this one goes on with has left up."""
    return run.earlier.left_up(trial) if run.earlier else None


def _settle(run: Run, result: ModelResult) -> None:
    """Compare a trial with what its declaration expects of it."""
    platform = run.deployed[-1].engine.platform if run.deployed else run.nodes.platform(run.case.nodes)
    expectations.settle(result, run.report.failures, run.case, platform)
    if result.expected:
        run.options.tell(f"  expected {result.expected.check}: {result.expected.evidence}")


def deploy(run: Run, trial: TrialName, method: str, known: dict[str, Any] | None) -> Deployment:
    """Deploy a trial, unless the run that this one goes on with has left it up.

    Args:
        run: the run.
        trial: the trial.
        method: how its reference answer is found.
        known: that answer, where it is known already.

    Raises:
        GiveUp: it did not come up.
    """
    left_up = _left_up(run, trial)
    if left_up is not None:
        run.options.tell(f"deploy {trial}  (up since before)")
        run.deployed.append(left_up)
        return left_up
    with run.phase("deploy", str(trial)):
        deployment = deploying.deploy(run, f"{run.case.test_case}.yml", trial)
        if method in ("recorded", "single_engine"):
            if method == "recorded":
                reference.same_revision(known, deployment)
            answered = deployments.Reference(method=method, answer=known)
            deployment = deployment.model_copy(update={"reference": answered})
        run.deployed.append(deployment)
        run.folder.write_deployments([entry.model_dump(mode="json") for entry in run.deployed])
    return deployment


def subject_of(run: Run, deployment: Deployment, result: ModelResult) -> Trial:
    """Return what checks look at.

    Args:
        run: the run.
        deployment: what is up.
        result: takes the results of checks.
    """
    slug = run.trials[run.report.models.index(result)].slug
    logs = run.folder.trial_logs(slug)

    def answered(exchange: Exchange) -> None:
        run.report.timing.inference += exchange.seconds
        owner = next((entry for entry in deployment.services if exchange.url.startswith(f"{entry.url}/")), None)
        run.happened(
            "request",
            f"{exchange.method} {exchange.url}: {exchange.problem or f'HTTP {exchange.status}'}",
            at=time.time() - exchange.seconds,
            node=owner.node if owner else None,
            service=owner.name if owner else None,
            trial=result.trial,
            seconds=round(exchange.seconds, 3),
            ok=exchange.status is not None and exchange.status < 400,
        )
        run.interrupt.check()

    return Trial(
        case=run.case,
        deployment=deployment,
        nodes=run.nodes,
        engine=engines.engine(run.case.engine),
        recorder=Recorder(result.trial, run.report.failures, result.checks, run.tell_check),
        transport=run.report.transport,
        requested_wheel=run.options.wheel,
        logs=logs,
        send=Sender(run.nodes, deployment.services, logs / "curl_response.log", run.interrupt, answered),
        happened=run.happened,
    )


def _try_one(run: Run, trial: TrialName, result: ModelResult, method: str, known: dict[str, Any] | None) -> None:
    deployment = deploy(run, trial, method, known)
    if describe.fill_in(run.report, result, deployment, run.nodes):
        run.folder.keep_wheel(Path(deployment.wheel.file))
    subject = subject_of(run, deployment, result)
    module = importlib.import_module(f"pyharness.verification.{run.case.test_case}")
    with run.phase("verify", str(trial)):
        worth_asking = module.verify(subject)
    if not worth_asking:
        raise GiveUp
    with run.phase("exercise", str(trial)):
        module.exercise(subject)
    if any(failure.spoils_judgement for failure in run.report.failures):
        raise GiveUp
