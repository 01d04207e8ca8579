"""Have Ansible deploy, and read what it says that it deployed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import deployment as deployments
from pyharness import facts, temporary
from pyharness.playbook import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyharness.case import TrialName
    from pyharness.deployment import Deployment
    from pyharness.lifecycle.run import Run
    from pyharness.playbook import Outcome

DEPLOY_SECONDS = 20 * 60
# The play of a test case's playbook that starts its services.
_PLAY = "Deploy"


def deploy(run: Run, playbook: str, trial: TrialName, phase: str = "deploy", **variables: Any) -> Deployment:
    """Deploy one trial of a run.

    Args:
        run: the run.
        playbook: file name below playbooks/.
        trial: what to deploy.
        phase: the phase that it belongs to, which names the files that it leaves.
        variables: what the playbook is given besides the run's variables.

    Raises:
        GiveUp: it did not come up; the report says why.
        Interrupted: the run is to end.
    """
    with _asked(run, playbook, trial, phase, variables) as asked:
        outcome = run.playbooks.run(playbook, asked.variables, label=asked.label, tags="deploy", timeout=DEPLOY_SECONDS)
        return _take(run, asked, outcome)


def provision_and_deploy(
    run: Run, playbook: str, trial: TrialName, seconds: int, begun: Callable[[], None]
) -> Deployment:
    """Have one run of Ansible provision and deploy the first trial: each start of Ansible costs half a second.

    Args:
        run: the run.
        playbook: file name below playbooks/.
        trial: what to deploy.
        seconds: limit of provisioning.
        begun: called when provisioning has gone well and deploying begins. What fails before is of phase `provision`.

    Raises:
        GiveUp: it did not come up; the report says why.
        Interrupted: the run is to end.
    """
    deploys = False

    def turn() -> None:
        nonlocal deploys
        deploys = True
        begun()

    with _asked(run, playbook, trial, "deploy", {}) as asked:
        outcome = run.playbooks.run(
            playbook,
            asked.variables,
            label="provision",
            tags="provision,deploy",
            timeout=seconds + DEPLOY_SECONDS,
            turn=Turn(_PLAY, asked.label, turn),
        )
        if not deploys:
            run.play("provision", outcome)
        return _take(run, asked, outcome)


@dataclass(frozen=True)
class _Asked:
    """What a playbook is to deploy, and where it says what it has deployed."""

    phase: str
    trial: TrialName
    label: str
    variables: dict[str, Any]
    file: Path


@contextmanager
def _asked(run: Run, playbook: str, trial: TrialName, phase: str, variables: dict[str, Any]) -> Iterator[_Asked]:
    given = {**run.variables(), **variables}
    # Empty where the trial serves none, so that the playbook does not take the first that is declared.
    given |= {"disagg_model": trial.model or ""} if run.case.models else {}
    given |= {"disagg_variant": trial.variant} if trial.variant else {}
    label = f"{phase}-{trial.slug}"
    run.journal.note("playbook", file=playbook, label=label, run=given["disagg_run"])
    # With environments as they are: not among the results, which have no secrets.
    with temporary.folder("deploy") as private:
        file = private / "deployment.json"
        yield _Asked(phase, trial, label, {**given, "disagg_deployment_file": str(file)}, file)


def _take(run: Run, asked: _Asked, outcome: Outcome) -> Deployment:
    """Read what has been deployed, and note it.

    Raises:
        GiveUp: it did not come up.
        Interrupted: the run is to end.
    """
    # Whoever takes the logs home if this process cannot has to hide what the services were given.
    facts.keep_secrets(run.run_id)
    run.play(asked.phase, outcome, str(asked.trial))
    deployment = deployments.read(asked.file)
    run.journal.note(
        "deployed",
        run=deployment.run_id,
        trial=asked.trial.slug,
        services={
            service.name: {"node": service.node, "pid": service.pid, "started_at": service.started_at}
            for service in deployment.running
        },
    )
    _put_on_timeline(run, deployment, str(asked.trial))
    return deployment


def _put_on_timeline(run: Run, deployment: Deployment, trial: str) -> None:
    for service in deployment.running:
        where: dict[str, Any] = {"node": service.node, "service": service.name, "trial": trial}
        run.happened("start", f"{service.name} started, pid {service.pid}", at=service.started_at, **where)
        if service.ready_at is not None:
            took = round(service.ready_at - service.started_at, 3)
            run.happened("ready", f"{service.name} ready after {took:.1f} s", at=service.ready_at, **where)
