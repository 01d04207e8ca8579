"""The last phase: end what the run started, take the logs home, and prove the nodes clean."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pyharness import unfinished
from pyharness.classification.playbooks import explain as explain_playbook
from pyharness.errors import UsageError
from pyharness.verification import clean
from pyharness.verification.base import Recorder

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.lifecycle.run import Run
    from pyharness.playbook import Outcome

TEARDOWN_SECONDS = 5 * 60


def take_down(run: Run, run_id: str, label: str) -> Outcome:
    """End what a run has up on the nodes, and take its logs home.

    Args:
        run: the run that does it.
        run_id: whose services: its own, those of the engine that answered alone, or those of a dead run.
        label: names the file that keeps Ansible's output.
    """
    own = run_id.startswith(run.run_id)
    # Of a dead run the logs are its own matter: they would stand among those of this one.
    logs = {"disagg_logs_to": str(run.folder.logs.resolve())} if own else {"disagg_log_archive": ""}
    variables = {
        "disagg_run": run_id,
        "disagg_hosts": ":".join(run.case.nodes),
        # They are given back when nothing of it is left, and that has been proven.
        "disagg_keep_lease": own,
        **logs,
        **run.leases.variables_for(run_id),
        **run.options.extra_vars,
    }
    outcome = run.playbooks.run("teardown.yml", variables, label=label, timeout=TEARDOWN_SECONDS, patient=True)
    run.report.failures += explain_playbook(outcome, "teardown", None)
    run.guarded(run.folder.unpack_logs)
    return outcome


def tear_down(run: Run) -> None:
    """End all of a run, and prove that nothing of it is left."""
    if not run.touched_nodes:
        run.leases.release()
        unfinished.forget(run.run_id)
        return
    services: list[Service] = [service for entry in run.deployed for service in entry.services]
    recorder = Recorder(None, run.report.failures, run.report.checks, run.tell_check)
    with run.timed("teardown") as phase:
        _note(run, "begun")
        for service in services:
            where = {"node": service.node, "service": service.name}
            run.happened("stop", f"{service.name} is ended", at=time.time(), **where)
        for single in run.single_runs:
            take_down(run, single, "reference-teardown")
        outcome = take_down(run, run.run_id, "teardown")
        try:
            names = run.nodes.names(run.case.nodes)
        except UsageError:
            names = []  # the inventory is no good: that is the failure, and nothing was started
        proven = bool(names) and recorder.run(
            "nodes_clean", lambda: clean.nodes_clean(run.nodes, names, run.run_id, services, run.leases.shared_memory)
        )
        deployed = any(phase.name in ("reference", "deploy") for phase in run.report.phases)
        if (proven and (outcome.ok or not deployed)) or not names:
            run.leases.release()
            unfinished.forget(run.run_id)
            _note(run, "ok")
        else:
            run.remember(run.report.failures[-1].evidence.splitlines()[0])
            _note(run, "failed")
    phase.status = "ok" if outcome.ok else "failed"


def _note(run: Run, status: str) -> None:
    """Write down how it goes. Nodes are cleaned whether or not there is room for that."""
    with suppress(OSError):
        run.journal.note("phase", name="teardown", trial=None, status=status)
