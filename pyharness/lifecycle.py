"""The life of one run: provision, deploy, verify, exercise, tear down, and a verdict whatever happens."""

from __future__ import annotations

import importlib
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import case as cases
from pyharness import deployment as deployments
from pyharness import (
    describe,
    diagnosis,
    durations,
    engines,
    expectations,
    paths,
    reference,
    results,
    unfinished,
    wheel_source,
)
from pyharness.errors import UsageError
from pyharness.interrupt import Interrupt, Interrupted
from pyharness.playbook import PlaybookRunner
from pyharness.results_dir import ResultsDir
from pyharness.sending import Sender
from pyharness.verification import clean
from pyharness.verification.base import Recorder, Trial
from pyharness.verification.node_probe import NodeError, Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyharness.deployment import Deployment, Service
    from pyharness.exercise import Exchange
    from pyharness.options import Options
    from pyharness.playbook import Outcome
    from pyharness.results import Check

PROVISION_SECONDS = 45 * 60
DEPLOY_SECONDS = 20 * 60
TEARDOWN_SECONDS = 5 * 60


class _GiveUp(Exception):  # noqa: N818
    """The rest of the run makes no sense; the failures say why."""


def run_case(options: Options) -> results.Report:
    """Run one test case from a clean node to a clean node.

    Args:
        options: what to do.

    Returns:
        the report, which is written to the results folder too, whatever its verdict.

    Raises:
        UsageError: what is asked for cannot be done. Where the test case is known, an error result is written first,
            so that no earlier Pass stays in place.
    """
    paths.use_project_ansible()
    case = cases.load(options.test_case)
    folder = ResultsDir(options.results, options.test_case)
    run = _Run(options, case, folder)
    folder.write(run.report)
    try:
        options.check(case)
    except UsageError as error:
        run.finish(error)
        run.playbooks.close()
        raise
    with run.interrupt.armed():
        run.live()
    return run.report


def refuse_case(options: Options, failure: results.Failure) -> results.Report:
    """Leave an error result for a test case that is not begun, so that no earlier Pass stays in place.

    Args:
        options: what was to be done.
        failure: why it is not.

    Raises:
        UsageError: there is no such test case, or the results folder cannot be written.
    """
    case = cases.load(options.test_case)
    run = _Run(options, case, ResultsDir(options.results, options.test_case))
    run.report.failures.append(failure)
    run.finish()
    return run.report


class _Run:
    """One run. `live` is its whole life; the other methods are its phases."""

    def __init__(self, options: Options, case: cases.TestCase, folder: ResultsDir) -> None:
        self.options, self.case, self.folder = options, case, folder
        self.run_id = results.new_run_id()
        self.interrupt = Interrupt()
        self.trials = case.trials(options.models, options.variants)
        self.models = list(dict.fromkeys(trial.model for trial in self.trials if trial.model))
        self.report = results.Report(
            test_case=case.test_case,
            run_id=self.run_id,
            started_at=results.now(),
            inventory=str(options.inventory),
            engine={"name": case.engine},
            models=[results.ModelResult(name=trial.model, variant=trial.variant) for trial in self.trials],
            transport=results.TransportUse(declared=case.transport),
        )
        self.deployed: list[Deployment] = []
        self._started = time.monotonic()
        (folder.logs / "ansible").mkdir(exist_ok=True)
        self.nodes = Nodes(options.inventory)
        self.playbooks = PlaybookRunner(options.inventory, folder.logs / "ansible", self.interrupt.is_set)
        self._touched_nodes = False
        self._single_runs: list[str] = []

    def live(self) -> None:
        """Do everything, and end in a written report."""
        error = self._guarded(self._deploy_and_verify)
        if not (self.options.keep and not self.interrupt.is_set()):
            error = self._guarded(self._teardown) or error
        self.finish(error)

    def _deploy_and_verify(self) -> None:
        self._provision()
        # Of all models first: one engine alone takes the ports that a deployment holds.
        method = self._reference_method()
        known = {model: self._reference_answer(method, model) for model in self.models}
        for trial, result in zip(self.trials, self.report.models, strict=True):
            try:
                self._one_trial(trial, result, method, known.get(trial.model or ""))
            except _GiveUp:
                self._settle(result)
                if result.expected is None:
                    raise
            else:
                self._settle(result)

    def _settle(self, result: results.ModelResult) -> None:
        """Compare a trial with what its declaration expects of it."""
        platform = self.deployed[-1].engine.platform if self.deployed else self.nodes.platform(self.case.nodes)
        expectations.settle(result, self.report.failures, self.case, platform)
        if result.expected:
            self.options.tell(f"  expected {result.expected.check}: {result.expected.evidence}")

    def _guarded(self, part: Callable[[], None]) -> UsageError | None:
        """Run a part of the run. Whatever ends it early is a failure: what is left unsaid would read as a pass."""
        try:
            part()
        except UsageError as error:
            return error
        except (_GiveUp, Interrupted):
            pass  # their failures are in the report, or will be
        except NodeError as error:
            unseen = _failure("infrastructure", "run", str(error), "see whether the node is up")
            self.report.failures.append(unseen.model_copy(update={"unfit_node": error.node}))
        except Exception as error:  # noqa: BLE001 (the run has to end in a verdict, and nothing be left on the nodes)
            told = f"{type(error).__name__}: {error}"
            self.report.failures.append(_failure("test", "run", told, "this is a defect of the harness; report it"))
        return None

    def finish(self, error: UsageError | None = None) -> None:
        """Judge and write the results."""
        self.playbooks.close()
        failures = self.report.failures
        if self.interrupt.signal_name:
            at = next((phase.name for phase in reversed(self.report.phases) if phase.name != "teardown"), "start")
            told = f"{self.interrupt.signal_name} ended the run in phase {at}"
            failures.insert(0, _failure("test", "interrupted", told, "run it again"))
        if error is not None:
            failures.insert(0, _failure("configuration", "usage", str(error), "correct it and run again"))
        self.report.finished_at = results.now()
        self.report.timing.sum_up(time.monotonic() - self._started)
        self.report.judge()
        wheel = self.deployed[-1].wheel if self.deployed else None
        self.folder.write_environment(
            {
                "test_case_name": self.case.test_case,
                "DISAGG_RUN_ID": self.run_id,
                "DISAGG_INVENTORY": str(self.options.inventory),
                # A URL may hold a secret in its query.
                "DISAGG_WHEEL": wheel.version if wheel else wheel_source.told(self.options.wheel or ""),
            }
        )
        self.folder.write_deployments([entry.model_dump(mode="json") for entry in self.deployed])
        self.folder.write(self.report)
        if not self.options.models and not self.options.variants:
            durations.remember(self.report, self.options.inventory)

    @contextmanager
    def _phase(self, name: str, trial: str | None = None) -> Iterator[results.Phase]:
        self.interrupt.check()
        self.options.tell(f"{name}{f' {trial}' if trial else ''}")
        phase = results.Phase(name=name, trial=trial, status="failed", started_at=results.now(), seconds=0.0)
        self.report.phases.append(phase)
        started = time.monotonic()
        try:
            yield phase
            phase.status = "ok"
        finally:
            phase.seconds = round(time.monotonic() - started, 3)

    def _variables(self) -> dict[str, Any]:
        variables: dict[str, Any] = {
            "disagg_run": self.run_id,
            "disagg_hosts": ":".join(self.case.nodes),
            "models": self.models,
        }
        if self.options.wheel is not None:
            variables["disagg_wheel"] = wheel_source.parse(self.options.wheel).variable
        return {**variables, **self.options.extra_vars}

    def _play(self, phase: str, outcome: Outcome, trial: str | None = None) -> None:
        """Go on if a playbook went well, give up if not."""
        self.interrupt.check()
        failures = diagnosis.explain(outcome, phase, trial)
        self.report.failures += failures
        if failures:
            raise _GiveUp

    def _provision(self) -> None:
        problems: list[UsageError] = []

        def load() -> None:
            try:
                self.nodes.load()
            except UsageError as error:
                problems.append(error)

        # Ansible reads the inventory for the playbook, and testinfra has it read for the checks: side by side.
        reading = threading.Thread(target=load)
        reading.start()
        for story in unfinished.stories(self.options.inventory):
            self.options.tell(story)
        self._remember()
        try:
            with self._phase("provision"):
                self._touched_nodes = True
                outcome = self.playbooks.run(
                    f"{self.case.test_case}.yml",
                    self._variables(),
                    label="provision",
                    tags="provision",
                    timeout=PROVISION_SECONDS,
                )
                reading.join()
                if problems and not self.interrupt.is_set():
                    raise problems[0]
                self._play("provision", outcome)
        finally:
            reading.join()

    def _remember(self, reason: str = "") -> None:
        """Keep on this machine that the run's nodes are not clean."""
        kept = self.options.keep and not self.interrupt.is_set()
        with suppress(OSError):  # a full disk here is no reason to leave the nodes as they are
            unfinished.note(self.report, self.options.inventory, self.case.nodes, kept=kept, reason=reason)

    def _one_trial(
        self, trial: cases.TrialName, result: results.ModelResult, method: str, known: dict[str, Any] | None
    ) -> None:
        name = result.trial
        recorder = Recorder(name, self.report.failures, result.checks, self._tell_check)
        with self._phase("deploy", name):
            deployment = self._deploy(f"{self.case.test_case}.yml", trial)
            if method in ("recorded", "single_engine"):
                if method == "recorded":
                    reference.same_revision(known, deployment)
                answered = deployments.Reference(method=method, answer=known)
                deployment = deployment.model_copy(update={"reference": answered})
            self.deployed.append(deployment)
        if describe.fill_in(self.report, result, deployment, self.nodes):
            self.folder.keep_wheel(Path(deployment.wheel.file))
        logs = self.folder.trial_logs(trial.slug)
        subject = Trial(
            case=self.case,
            deployment=deployment,
            nodes=self.nodes,
            engine=engines.engine(self.case.engine),
            recorder=recorder,
            transport=self.report.transport,
            requested_wheel=self.options.wheel,
            logs=logs,
            send=self._sender(deployment, logs / "curl_response.log"),
        )
        module = importlib.import_module(f"pyharness.verification.{self.case.test_case}")
        with self._phase("verify", name):
            worth_asking = module.verify(subject)
        if not worth_asking:
            raise _GiveUp
        with self._phase("exercise", name):
            module.exercise(subject)
        if any(failure.spoils_judgement for failure in self.report.failures):
            raise _GiveUp

    def _deploy(self, playbook: str, trial: cases.TrialName, phase: str = "deploy", **variables: Any) -> Deployment:
        file = self.folder.root / f".{phase}-{trial.slug}.json"
        wanted: dict[str, Any] = {"disagg_deployment_file": str(file.resolve()), **variables}
        # Empty where the trial serves none, so that the playbook does not take the first that is declared.
        wanted |= {"disagg_model": trial.model or ""} if self.case.models else {}
        wanted |= {"disagg_variant": trial.variant} if trial.variant else {}
        outcome = self.playbooks.run(
            playbook,
            {**self._variables(), **wanted},
            label=f"{phase}-{trial.slug}",
            tags="deploy",
            timeout=DEPLOY_SECONDS,
        )
        self._play(phase, outcome, str(trial))
        deployment = deployments.read(file)
        file.unlink()
        return deployment

    def _reference_method(self) -> str:
        """Return how the reference answer is found here: the inventory may name another way than the test case."""
        first = self.nodes.names(self.case.nodes)[0]
        return reference.method(
            self.case, lambda name: self.options.extra_vars.get(name) or self.nodes.variable(first, name)
        )

    def _reference_answer(self, method: str, model: str) -> dict[str, Any] | None:
        """Return what one engine alone answers, unless provisioning finds it out."""
        if method == "recorded":
            return reference.recorded(self.case, model)
        if method != "single_engine":
            return None
        run = f"{self.run_id}-single"
        names = {"disagg_run": run, "test_case": self.case.test_case}
        with self._phase("reference", model):
            self._single_runs.append(run)
            alone = self._deploy("single_engine.yml", cases.TrialName(model, None), "reference", **names)
            self.report.timing.engine_start += alone.ready_at - alone.started_at
            answer = reference.ask_single_engine(alone, self.case, engines.engine(self.case.engine))
            self._take_down(run, f"reference-teardown-{paths.slug(model)}")
            self._single_runs.remove(run)
        return answer

    def _take_down(self, run: str, label: str) -> Outcome:
        variables = {
            "disagg_run": run,
            "disagg_hosts": ":".join(self.case.nodes),
            "disagg_logs_to": str(self.folder.logs.resolve()),
        }
        outcome = self.playbooks.run("teardown.yml", variables, label=label, timeout=TEARDOWN_SECONDS, patient=True)
        self.report.failures += diagnosis.explain(outcome, "teardown", None)
        self._guarded(self.folder.unpack_logs)
        return outcome

    def _sender(self, deployment: Deployment, log: Path) -> Sender:
        def answered(exchange: Exchange) -> None:
            self.report.timing.inference += exchange.seconds
            self.interrupt.check()

        return Sender(self.nodes, deployment.services, log, self.interrupt, answered)

    def _teardown(self) -> None:
        if not self._touched_nodes:
            return
        services: list[Service] = [service for entry in self.deployed for service in entry.services]
        recorder = Recorder(None, self.report.failures, self.report.checks, self._tell_check)
        phase = results.Phase(name="teardown", status="failed", started_at=results.now(), seconds=0.0)
        self.report.phases.append(phase)
        self.options.tell("teardown")
        started = time.monotonic()
        for run in self._single_runs:
            self._take_down(run, "reference-teardown")
        outcome = self._take_down(self.run_id, "teardown")
        try:
            names = self.nodes.names(self.case.nodes)
        except UsageError:
            names = []  # the inventory is no good: that is the failure, and nothing was started
        proven = bool(names) and recorder.run(
            "nodes_clean", lambda: clean.nodes_clean(self.nodes, names, self.run_id, services)
        )
        deployed = any(phase.name in ("reference", "deploy") for phase in self.report.phases)
        if (proven and outcome.ok) or not names or not deployed:
            unfinished.forget(self.run_id)
        else:
            self._remember(self.report.failures[-1].evidence.splitlines()[0])
        phase.status = "ok" if outcome.ok else "failed"
        phase.seconds = round(time.monotonic() - started, 3)

    def _tell_check(self, check: Check, message: str) -> None:
        first = message.splitlines()[0] if message else ""
        self.options.tell(f"  {check.status:<7} {check.id}{f': {first}' if first else ''}")


def _failure(class_: results.FailureClass, check: str, evidence: str, hint: str) -> results.Failure:
    return results.Failure(class_=class_, check=check, evidence=evidence, hint=hint, spoils_judgement=True)
