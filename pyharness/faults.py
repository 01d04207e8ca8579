"""Faults in a run's own services: made to happen, proven to have happened, and mended again.

A fault goes in four steps: the service is there and is ours; the fault; proof that it took effect, without which
nothing follows from what is seen afterwards; and the way back. The harness's watch over services knows of it
(`Nodes.replaced`), so what was ended on purpose is not taken for a crash.

Nothing here knows what a service is for. What has to hold meanwhile is a verification's to say.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import exercise, paths
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_UTILS = paths.COLLECTION / "plugins" / "module_utils"
# SIGKILL takes effect at once; what a dying process holds may take a moment to be given back.
_GONE_SECONDS = 10.0
_DOOR_SECONDS = 2.0
_POLL_SECONDS = 0.1

# Runs in a node's own Python, like the probe of verification/node_probe.py, with files of the collection.
_SCRIPT = """
import json, os, time
parts = {parts!r}
names = {{name: {{"__name__": name}} for name in parts}}
for name, source in parts.items():
    exec(compile(source, name + ".py", "exec"), names[name])
state, containers, supervisor = (names[name] for name in ("node_state", "containers", "supervisor"))
asked = json.loads({asked!r})
{action}
"""

_KILL = """
found = state["process"](asked["pid"])
answer = {"process": found, "pids": [], "left": []}
if found is not None and found["state"] != "Z" and found["run"] == asked["run"]:
    answer["pids"] = state["tree"](asked["pid"])
    started = time.monotonic()
    if asked["container"]:
        containers["docker"]("kill", asked["container"])
    for pid in answer["pids"]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass  # gone already
    while True:
        seen = [state["process"](pid) for pid in answer["pids"]]
        answer["left"] = [process["pid"] for process in seen if process and process["state"] not in ("Z", "X")]
        if not answer["left"] or time.monotonic() > started + asked["seconds"]:
            break
        time.sleep(0.02)
    answer["seconds"] = round(time.monotonic() - started, 3)
print(json.dumps(answer))
"""

_START = """
if asked["container"]:
    containers["docker"]("start", asked["container"])
    pid = containers["status"](asked["container"])["Pid"]
else:
    of_the_run = supervisor["Supervisor"](asked["run_dir"])
    of_the_run.rpc.startProcess(asked["name"], False)
    pid = of_the_run.status(asked["name"])["pid"]
found = state["process"](pid) if pid else None
print(json.dumps({"pid": pid, "started_at": found["started_at"] if found else 0.0}))
"""


def _do(trial: Trial, service: Service, action: str) -> dict[str, Any]:
    parts = {
        name: (_UTILS / f"{name}.py").read_text(encoding="utf-8") for name in ("node_state", "containers", "supervisor")
    }
    asked = {
        "name": service.name,
        "pid": service.pid,
        "run": trial.deployment.run_id,
        "run_dir": service.run_dir,
        "container": (service.container or {}).get("name", ""),
        "seconds": _GONE_SECONDS,
    }
    return trial.nodes.run_python(service.node, _SCRIPT.format(parts=parts, asked=json.dumps(asked), action=action))


def kill(trial: Trial, service: Service) -> Evidence:
    """End a service at once with SIGKILL, all its processes, or its container.

    Args:
        trial: whose service.
        service: which. It stays what it is to the run: teardown finds what is left of it.

    Returns:
        its process ids, and the seconds until all of them were gone.

    Raises:
        CheckFailed: it was not running any more, or it lives on.
        NodeError: its node cannot be asked.
    """
    service = trial.nodes.current(service) or service  # it may have been killed and started again before
    # Before it is done: a watch that looks in between must not take it for a crash.
    trial.nodes.replaced(service, None)
    done = _do(trial, service, _KILL)
    if not done["pids"]:
        raise CheckFailed(
            f"{service.name} on {service.node} (pid {service.pid}) was to be killed, and is not there any more: "
            f"{done['process']}",
            {"found": done["process"], "tail": trial.nodes.log_tail(service)},
            hint=f"see in {service.log} why it has ended before",
        )
    if done["left"]:
        raise CheckFailed(
            f"{service.name} on {service.node} lives on {_GONE_SECONDS:g} s after SIGKILL: pids {done['left']}",
            done,
            hint="a process that does not end hangs in the kernel: see dmesg on the node",
            class_="infrastructure",
        )
    where = {"node": service.node, "service": service.name, "trial": trial.recorder.trial}
    trial.happened("fault", f"{service.name} killed: pids {done['pids']} gone", at=time.time(), **where)
    return {"service": service.name, "node": service.node, "pids": done["pids"], "gone_after_seconds": done["seconds"]}


def start_again(trial: Trial, service: Service) -> Service:
    """Start a service that was killed, as it was deployed, and wait until it answers.

    Args:
        trial: whose service.
        service: as it was before it was killed.

    Returns:
        the service as it runs now.

    Raises:
        CheckFailed: it ends again, or is not ready in time.
        NodeError: its node cannot be asked.
    """
    done = _do(trial, service, _START)
    current = service.model_copy(update={**done, "ready_at": None})
    trial.nodes.replaced(service, current)
    deadline = time.monotonic() + service.ready_timeout
    while True:
        seen = exercise.get(service.ready_url, _DOOR_SECONDS)
        if seen.status == 200:
            where = {"node": service.node, "service": service.name, "trial": trial.recorder.trial}
            trial.happened("start", f"{service.name} started again, pid {current.pid}", at=current.started_at, **where)
            trial.happened("ready", f"{service.name} ready again", at=time.time(), **where)
            return current.model_copy(update={"ready_at": time.time()})
        ended = bool(trial.nodes.ended([current]))
        if ended or time.monotonic() > deadline:
            last = seen.problem or f"HTTP {seen.status}"
            told = "ended again" if ended else f"is not ready {service.ready_timeout:g} s later"
            tail = trial.nodes.log_tail(service)
            raise CheckFailed(
                f"{service.name} on {service.node} was killed and started again, and {told}; GET {service.ready_url} "
                f"last gave: {last}; its last lines:\n" + "\n".join(tail),
                {"pid": current.pid, "tail": tail},
                hint=f"read {service.log} on {service.node}; a copy is in the results' logs folder",
            )
        time.sleep(_POLL_SECONDS)


@dataclass
class Outage:
    """A service that is away.

    Attributes:
        evidence: that it is.
        successor: what runs in its place once it is over.
    """

    evidence: Evidence
    successor: Service | None = None


@contextmanager
def killed(trial: Trial, service: Service) -> Iterator[Outage]:
    """Keep a service killed while the block runs, and have it back afterwards, also when the block finds a failure.

    Raises:
        CheckFailed: see `kill` and `start_again`; what the block raises goes first.
        NodeError: its node cannot be asked.
    """
    outage = Outage(kill(trial, service))
    try:
        yield outage
    except CheckFailed:
        with suppress(CheckFailed, NodeError):  # for the checks that follow; the failure is what the block found
            start_again(trial, service)
        raise
    outage.successor = start_again(trial, service)
