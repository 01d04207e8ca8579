"""The trials of a run, one after the other: deployed, verified, exercised, and held against what is expected."""

from __future__ import annotations

import importlib
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import deployment as deployments
from pyharness import describe, engines, expectations, known_defects, reference
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
    from pyharness.streamed import Streamed


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
    for result in run.report.models:
        if _is_judged(run, result):
            known_defects.settle(run.report, result, run.case, cut_short=False)
    # What is up already first: the next deployment takes its place.
    wanted.sort(key=lambda entry: _left_up(run, entry[0]) is None and entry[0] not in run.ahead)
    method = references.method(run)
    models = {trial.model for trial, _result in wanted if trial.model and not _left_up(run, trial)}
    known = {model: references.answer(run, method, model) for model in run.models if model in models}
    for trial, result in wanted:
        try:
            _try_one(run, trial, result, method, known.get(trial.model or ""))
        except GiveUp:
            _settle(run, result, cut_short=True)
            if result.expected is None:
                raise
        else:
            _settle(run, result, cut_short=False)
        # Not judged yet as a whole, so it is still an error; but what a kill -9 leaves says how far it came.
        run.folder.write(run.report)


def first(run: Run) -> TrialName | None:
    """Return the trial that is deployed right after provisioning; None where something else has to come between.

    Raises:
        UsageError: the inventory names no way to find a reference answer that there is.
    """
    if references.method(run) in ("recorded", "single_engine"):
        return None
    pairs = zip(run.trials, run.report.models, strict=True)
    wanted = [trial for trial, result in pairs if not _is_judged(run, result)]
    return None if any(_left_up(run, trial) for trial in wanted) else next(iter(wanted), None)


def _is_judged(run: Run, result: ModelResult) -> bool:
    """Tell whether the run that this one goes on with has judged a trial."""
    return bool(run.earlier and result.checks)


def _left_up(run: Run, trial: TrialName) -> Deployment | None:
    """Return the deployment of a trial that the run that this one goes on with has left up."""
    return run.earlier.left_up(trial) if run.earlier else None


def _settle(run: Run, result: ModelResult, *, cut_short: bool) -> None:
    """Compare a trial with what its declaration expects of it, and with the defects that it knows."""
    known_defects.settle(run.report, result, run.case, cut_short=cut_short)
    platform = run.deployed[-1].engine.platform if run.deployed else run.nodes.platform(run.case.nodes)
    expectations.settle(result, run.report.failures, run.case, platform)
    if result.expected and result.expected.kind != "known_defect":
        run.options.tell(f"  expected {result.expected.check}: {result.expected.evidence}")
    for seen in run.report.known_defects:
        if seen.trial == result.trial:
            told = f"known defect of {seen.package} {seen.version}, {seen.check}: {seen.state.replace('_', ' ')}"
            run.options.tell(f"  {told} ({seen.evidence})")


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
    with nullcontext() if trial in run.ahead else run.phase("deploy", str(trial)):
        deployment = (
            run.ahead.pop(trial) if trial in run.ahead else deploying.deploy(run, f"{run.case.test_case}.yml", trial)
        )
        if deployment is None:
            raise GiveUp
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

    def put(method: str, url: str, text: str, seconds: float, *, ok: bool) -> None:
        owner = next((entry for entry in deployment.services if url.startswith(f"{entry.url}/")), None)
        run.happened(
            "request",
            f"{method} {url}: {text}",
            at=time.time() - seconds,
            node=owner.node if owner else None,
            service=owner.name if owner else None,
            trial=result.trial,
            seconds=round(seconds, 3),
            ok=ok,
        )

    def answered(exchange: Exchange) -> None:
        told = exchange.problem or f"HTTP {exchange.status}"
        well = exchange.status is not None and exchange.status < 400
        put(exchange.method, exchange.url, told, exchange.seconds, ok=well)
        run.interrupt.check()

    def streamed(told: Streamed) -> None:
        put("POST", told.url, told.problem or f"HTTP {told.status}, stream", told.seconds, ok=told.ending == "done")

    sender = Sender(run.nodes, deployment.services, logs / "curl_response.log", run.interrupt, answered, streamed)
    return Trial(
        case=run.case,
        deployment=deployment,
        nodes=run.nodes,
        engine=engines.engine(run.case.engine),
        recorder=Recorder(result.trial, run.report.failures, result.checks, run.tell_check),
        transport=run.report.transport,
        requested_wheel=run.options.wheel,
        logs=logs,
        send=sender,
        happened=run.happened,
        stream=sender.stream,
        faults=result.faults,
        note=run.journal.note,
        go_on=run.interrupt.check,
        lease=run.leases.variables()["disagg_leases"].get,
    )


def _try_one(run: Run, trial: TrialName, result: ModelResult, method: str, known: dict[str, Any] | None) -> None:
    deployment = deploy(run, trial, method, known)
    if describe.fill_in(run.report, result, deployment, run.nodes, run.case.packages):
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
