"""Have Ansible deploy, and read what it says that it deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness import deployment as deployments
from pyharness import facts, temporary

if TYPE_CHECKING:
    from pyharness.case import TrialName
    from pyharness.deployment import Deployment
    from pyharness.lifecycle.run import Run

DEPLOY_SECONDS = 20 * 60


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
    wanted = dict(variables)
    # Empty where the trial serves none, so that the playbook does not take the first that is declared.
    wanted |= {"disagg_model": trial.model or ""} if run.case.models else {}
    wanted |= {"disagg_variant": trial.variant} if trial.variant else {}
    label = f"{phase}-{trial.slug}"
    given = {**run.variables(), **wanted}
    run.journal.note("playbook", file=playbook, label=label, run=given["disagg_run"])
    # With environments as they are: not among the results, which have no secrets.
    with temporary.folder("deploy") as private:
        file = private / "deployment.json"
        given["disagg_deployment_file"] = str(file)
        outcome = run.playbooks.run(playbook, given, label=label, tags="deploy", timeout=DEPLOY_SECONDS)
        # Whoever takes the logs home if this process cannot has to hide what the services were given.
        facts.keep_secrets(run.run_id)
        run.play(phase, outcome, str(trial))
        deployment = deployments.read(file)
    run.journal.note(
        "deployed",
        run=deployment.run_id,
        trial=trial.slug,
        services={
            service.name: {"node": service.node, "pid": service.pid, "started_at": service.started_at}
            for service in deployment.services
        },
    )
    _put_on_timeline(run, deployment, str(trial))
    return deployment


def _put_on_timeline(run: Run, deployment: Deployment, trial: str) -> None:
    for service in deployment.services:
        where: dict[str, Any] = {"node": service.node, "service": service.name, "trial": trial}
        run.happened("start", f"{service.name} started, pid {service.pid}", at=service.started_at, **where)
        if service.ready_at is not None:
            took = round(service.ready_at - service.started_at, 3)
            run.happened("ready", f"{service.name} ready after {took:.1f} s", at=service.ready_at, **where)
