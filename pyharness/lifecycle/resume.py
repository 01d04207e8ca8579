"""Go on with a run that did not come to its end, from the first phase that is not done or whose inputs have changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyharness import facts, journal, unfinished
from pyharness.deployment import Deployment
from pyharness.errors import UsageError
from pyharness.lifecycle import teardown
from pyharness.lifecycle.run import GiveUp
from pyharness.results import TIME_FORMAT, Phase, Report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.case import TrialName
    from pyharness.lifecycle.run import Run

# As verification/services.py has it: proc(5) counts ticks from a boot time in whole seconds.
_START_TOLERANCE_SECONDS = 1.5


@dataclass
class Earlier:
    """What a run has done before.

    Attributes:
        report: as it was last written.
        events: its journal.
        deployments: what it deployed, the last one last.
        up: the deployment that still runs, once that has been found out.
    """

    report: Report
    events: list[dict[str, Any]]
    deployments: list[Deployment]
    up: Deployment | None = field(default=None)

    def has_done(self, phase: str, trial: str | None, inputs: str) -> bool:
        """Tell whether a phase has gone well with the same inputs, and has not been begun again since.

        Args:
            phase: its name.
            trial: which trial it was about.
            inputs: digest of what it depends on now.
        """
        wanted = [event for event in self._phases() if (event["name"], event["trial"]) == (phase, trial)]
        last: dict[str, Any] = wanted[-1] if wanted else {}
        return last.get("status") == "ok" and last.get("inputs") == inputs

    def left_up(self, trial: TrialName) -> Deployment | None:
        """Return the deployment of a trial that still runs; None if there is none."""
        if self.up is None:
            return None
        model = self.up.model.name if self.up.model else None
        return self.up if (model, self.up.variant or None) == (trial.model, trial.variant) else None

    @property
    def last_phase(self) -> dict[str, Any]:
        """What the journal says last of any phase; of one that began none, that it left nothing."""
        return next(reversed(self._phases()), {"name": "teardown", "trial": None, "status": "ok"})

    @property
    def is_torn_down(self) -> bool:
        """Whether nothing of it is left on its nodes, as far as it knew."""
        return (self.last_phase["name"], self.last_phase["status"]) == ("teardown", "ok")

    def restore(self, report: Report) -> None:
        """Put into the report of the run that goes on what stays true."""
        for name in ("started_at", "timeline", "versions", "artifacts"):
            setattr(report, name, getattr(self.report, name))
        report.phases = self._past_phases()
        report.timing.engine_start = self.report.timing.engine_start

    @property
    def seconds(self) -> float:
        """How long harnesses were at work on it before."""
        total, began, last = 0.0, None, 0.0
        for event in [*self.events, {"event": "run", "at": 0.0}]:
            if event["event"] == "run":
                total += last - began if began is not None else 0.0
                began = event["at"]
            last = event["at"]
        return float(total)

    def _past_phases(self) -> list[Phase]:
        """Return its phases as the journal has them: the report may have been written long before its harness died."""
        result: list[Phase] = []
        open_since: float | None = None
        for event in self.events:
            if event["event"] == "phase" and event["status"] == "begun":
                began = datetime.fromtimestamp(event["at"], UTC).strftime(TIME_FORMAT)
                named = {"name": event["name"], "trial": event["trial"], "started_at": began}
                result.append(Phase(**named, status="failed", seconds=0.0))
                open_since = event["at"]
            elif open_since is not None and result:
                # Of one that never ended it is known when something of it was heard last.
                result[-1].seconds = round(max(0.0, event["at"] - open_since), 3)
                if event["event"] == "phase":
                    result[-1].status = "ok" if event["status"] == "ok" else "failed"
                    open_since = None
            if event["event"] == "run":
                open_since = None
        return result

    def _phases(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "phase"]


def find(folder: Path) -> Earlier:
    """Return the run whose results lie in a folder.

    Args:
        folder: RESULTS/<case>.

    Raises:
        UsageError: there is none to go on with, or somebody is still at work on it.
    """
    try:
        report = Report.model_validate(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"--resume: {folder} holds no run to go on with; run without --resume") from error
    events = journal.read(folder / journal.NAME)
    if not any(event["event"] == "run" and event.get("run") == report.run_id for event in events):
        raise UsageError(f"--resume: {folder} holds no journal of run {report.run_id}; run without --resume")
    writer = next(event for event in reversed(events) if event["event"] == "run")
    if writer.get("harness") and unfinished.identity(writer["harness"][0]) == writer["harness"]:
        raise UsageError(
            f"--resume: run {report.run_id} is still at work (pid {writer['harness'][0]}); wait for its end, or end it"
        )
    try:
        documents = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))["deployments"]
        deployments = [Deployment.model_validate(document) for document in documents]
    except (OSError, ValueError, KeyError):
        deployments = []  # it did not come that far
    return Earlier(report, events, deployments)


def make_ready(run: Run) -> None:
    """Find out what of the earlier run stays, and end what does not. Nothing to do for a new run.

    Raises:
        GiveUp: something of it cannot be ended.
        NodeError: a node cannot be asked.
    """
    earlier = run.earlier
    if earlier is None:
        return
    facts.learn_secrets(run.run_id)
    run.options.tell(f"going on with run {run.run_id} of {earlier.report.started_at}")
    run.touched_nodes = True
    _keep_what_is_judged(run, earlier)
    if earlier.is_torn_down:
        return
    earlier.up = _still_up(run, earlier)
    if earlier.up is None:
        with run.timed("clean up"):
            outcomes = [
                teardown.take_down(run, left, f"resume-teardown-{number}")
                for number, left in enumerate((f"{run.run_id}-single", run.run_id))
            ]
        if not all(outcome.ok for outcome in outcomes):
            raise GiveUp


def _keep_what_is_judged(run: Run, earlier: Earlier) -> None:
    """Take over the trials that have passed with the same inputs."""
    inputs = run.inputs.of("exercise")
    before = {result.trial: result for result in earlier.report.models}
    kept = set()
    for number, result in enumerate(run.report.models):
        old = before.get(result.trial)
        # Skipped is what does not apply, where nothing failed.
        passed = old is not None and old.checks and all(check.status != "fail" for check in old.checks)
        if old is not None and passed and earlier.has_done("exercise", result.trial, inputs):
            run.report.models[number] = old
            kept.add(result.trial)
            run.options.tell(f"  kept    {result.trial}: none of its {len(old.checks)} checks has failed")
    transport = run.report.transport
    transport.evidence = [entry for entry in earlier.report.transport.evidence if entry.get("trial") in kept]
    if transport.evidence:
        transport.used, transport.requested = earlier.report.transport.used, earlier.report.transport.requested
    run.deployed = [entry for entry in earlier.deployments if _name(entry) in kept]


def _name(deployment: Deployment) -> str:
    """Return a deployment's trial as results name it."""
    from pyharness.case import TrialName  # noqa: PLC0415

    return str(TrialName(deployment.model.name if deployment.model else None, deployment.variant or None))


def _still_up(run: Run, earlier: Earlier) -> Deployment | None:
    """Return the last deployment if all its services run on as they were started and nothing they depend on changed."""
    # What a fault has left behind is not what was deployed, though every process may be there.
    if not earlier.deployments or not facts.are_known(run.run_id) or journal.faults_left(earlier.events):
        return None
    last = earlier.deployments[-1]
    name = _name(last)
    deployed = earlier.has_done("deploy", name, run.inputs.of("deploy"))
    judged = name in {result.trial for result in run.report.models if result.checks}
    if not deployed or judged or earlier.last_phase["trial"] != name:
        return None
    to_do = [result for result in run.report.models if not result.checks]
    if last.reference.method == "single_engine" and len(to_do) > 1:
        return None  # the engine that answers alone for the others needs its ports
    found = run.nodes.probe(last.running)
    for service in last.running:
        process = found[service.node]["services"][service.name]["process"]
        if (
            process is None
            or process["state"] == "Z"
            or process["run"] != run.run_id
            or abs(process["started_at"] - service.started_at) > _START_TOLERANCE_SECONDS
        ):
            return None
    return last
