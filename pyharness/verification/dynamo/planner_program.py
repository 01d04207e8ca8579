"""Dynamo's own programs for planning: the planner, and the connector by which it hands its decisions over.

The planner of ai-dynamo 1.6.1 cannot run here: it needs aisimulate, of which PyPI has a placeholder alone. What it
decides goes, outside Kubernetes, through `VirtualConnectorCoordinator` (the planner's side) and
`VirtualConnectorClient` (the environment's), both of `dynamo._core`, over etcd: these do run, and are used.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pyharness import faults
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import worker_faults

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

_PROGRAM_SECONDS = 40

_ON_NODE = """
import json, os, subprocess
environment = {{name: value for name, value in os.environ.items() if name != "NATS_SERVER"}} | {environment!r}
asked = {{"capture_output": True, "text": True, "timeout": {seconds!r}, "check": False}}
try:
    done = subprocess.run({command!r}, env=environment, **asked)
    told = {{"status": done.returncode, "output": done.stdout[-4000:], "error": done.stderr[-4000:]}}
except subprocess.TimeoutExpired:
    told = {{"status": None, "output": "", "error": "not over within {seconds:g} s"}}
print(json.dumps(told))
"""

# One end of the virtual connector: the coordinator is the planner's, the client the environment's.
_CONNECTOR = """
import asyncio, json, sys
from dynamo._core import DistributedRuntime, VirtualConnectorClient, VirtualConnectorCoordinator
async def main(step, *wanted):
    runtime = DistributedRuntime(asyncio.get_running_loop(), "etcd", "tcp")
    client, ready = VirtualConnectorClient(runtime, "dynamo"), None
    if step == "decide":
        coordinator = VirtualConnectorCoordinator(runtime, "dynamo", 1, 30, 30)
        await coordinator.async_init()
        await coordinator.update_scaling_decision(int(wanted[0]), int(wanted[1]))
        await coordinator.wait_for_scaling_completion()
        ready = await coordinator.is_scaling_ready()
    if step == "take":
        await asyncio.wait_for(client.wait(), 20)
    decision = await client.get()
    if step == "complete":
        await client.complete(decision)
    print(json.dumps({"prefill": decision.num_prefill_workers, "decode": decision.num_decode_workers,
                      "decision": decision.decision_id, "ready": ready}))
asyncio.run(main(*sys.argv[1:]))
"""


def scaled(trial: Trial) -> Evidence:
    """Hand the decision over by the planner's own connector, have a prefill worker join, and tell that it is done.

    The planner's side is at work all the while, as a planner is: its decision goes with it, by its lease in etcd.

    Raises:
        CheckFailed: the decision does not come over, the worker does not prefill, or the planner's side is not told.
    """
    with ThreadPoolExecutor(1) as pool:
        deciding = pool.submit(_connector, trial, "decide", "2", "1")
        taken = _connector(trial, "take")
        if (taken["prefill"], taken["decode"]) != (2, 1):
            raise CheckFailed(
                f"the planner's side decided 2P1D, and the environment's side reads {taken}",
                {"taken": taken},
                hint="v1/dynamo/planner/ in etcd has the decision",
            )
        evidence: Evidence = {"taken": taken, **_joined(trial)}
        evidence["completed"] = _connector(trial, "complete")
        evidence["decided"] = deciding.result()
    if not evidence["decided"]["ready"]:
        raise CheckFailed(
            "the environment told the planner's side that it has scaled, and this does not know it",
            evidence,
            hint="v1/dynamo/planner/ in etcd has the decision, and which was completed last",
        )
    return evidence


def _joined(trial: Trial) -> Evidence:
    """Have the prefill worker join that is declared for later."""
    newcomer = next(service for service in trial.deployment.later if service.kind == "prefill")
    limit = float(trial.workload["recovery_seconds"])
    with faults.injected(trial, faults.Start(newcomer)) as hold:
        found, waited = waiting.until(lambda: worker_faults.answers(trial, newcomer), limit)
        if not found:
            raise CheckFailed(
                f"{newcomer.name} was started and is ready, and prefills nothing {waited:g} s later",
                {"waited_seconds": waited},
                hint="see the frontend's log for the workers that it knows",
            )
    return {"joined": newcomer.name, "prefills_after_seconds": waited, "joining": hold.evidence}


def _connector(trial: Trial, step: str, *values: str) -> dict[str, Any]:
    """Do one step at the virtual connector. Returns the decision as its client reads it, and whether it is done."""
    told = _program(trial, ["-c", _CONNECTOR, step, *values])
    lines = told["output"].strip().splitlines()
    if told["status"] != 0 or not lines:
        raise CheckFailed(
            f"the planner's virtual connector refuses to {step}: {_last(told)}",
            told,
            hint="dynamo._core has it, and needs etcd",
        )
    return dict(json.loads(lines[-1]))


def planner_runs(trial: Trial) -> Evidence:
    """Check that the planner starts: its program, asked for its arguments alone.

    Raises:
        CheckFailed: it does not, with its own words.
    """
    told = _program(trial, ["-m", "dynamo.planner", "--help"])
    if told["status"] != 0:
        raise CheckFailed(
            f"python -m dynamo.planner ends with status {told['status']}: {_last(told)}",
            told,
            hint="ai-dynamo asks for aisimulate: PyPI has a placeholder alone, and NVIDIA's own index its wheel",
        )
    return {"output": told["output"][:500]}


def _last(told: dict[str, Any]) -> str:
    lines = [line for line in told["error"].splitlines() if line.strip()]
    return lines[-1][:300] if lines else "without a word"


def _program(trial: Trial, arguments: list[str]) -> dict[str, Any]:
    """Run a program of Dynamo's own Python on the frontend's node, to its end."""
    (frontend,) = trial.deployment.of_kind("frontend")
    environment = {name: value for name, value in frontend.environment.items() if name != "NATS_SERVER"}
    command = [frontend.command[0], *arguments]
    script = _ON_NODE.format(environment=environment, command=command, seconds=_PROGRAM_SECONDS)
    return trial.nodes.run_python(frontend.node, script)
