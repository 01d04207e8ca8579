"""The services that answer are the ones that this run deployed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

# proc(5) gives a process's start in ticks of 10 ms, relative to a boot time in whole seconds.
_START_TOLERANCE_SECONDS = 1.5
_ANSWER_SECONDS = 10.0
# Kinds of services that serve a model; a router, a master or an agent does not.
SERVING = ("prefill", "decode", "single")


def died(trial: Trial, service: Service) -> CheckFailed:
    """Return the failure that a service has ended: with its node, or by itself, with its last words.

    Raises:
        NodeError: its node cannot be asked.
    """
    where = {"node": service.node, "service": service.name, "trial": trial.recorder.trial}
    trial.happened("fault", f"{service.name} has ended, which is noticed now", at=time.time(), ok=False, **where)
    up_since = trial.nodes.probe([], nodes=[service.node]).get(service.node, {}).get("up_since")
    if up_since is not None and up_since > service.started_at + _START_TOLERANCE_SECONDS:
        lived = up_since - service.started_at
        return CheckFailed(
            f"{service.node} was restarted {lived:.0f} s after {service.name} had been started there",
            {"service": service.name, "node": service.node, "up_since": up_since},
            hint="see why it went down (journalctl --boot -1, last -x), and run again",
            class_="infrastructure",
            spoils_judgement=True,
        )
    tail = trial.nodes.log_tail(service)
    return CheckFailed(
        f"service {service.name} on {service.node} (pid {service.pid}) has ended since it was ready, as a whole or "
        "one of its processes; its last lines in "
        f"{service.log}:\n" + "\n".join(tail),
        {"service": service.name, "node": service.node, "pid": service.pid, "log": service.log, "tail": tail},
        hint=f"read {service.log} on {service.node}; a copy is in the results' logs folder",
    )


def services_are_ours(trial: Trial, kinds: Collection[str] = SERVING) -> Evidence:
    """Check for every service its process's start and the owner of its socket, and the model that it says it serves.

    Args:
        trial: whose services.
        kinds: the kinds of services that serve a model and say which.
    """
    deployment = trial.deployment
    found = trial.nodes.probe(deployment.running)
    evidence: dict[str, Any] = {}
    for service in deployment.running:
        seen = found[service.node]["services"][service.name]
        process = seen["process"]
        if process is None or process["state"] == "Z":
            raise died(trial, service)
        if process["run"] != deployment.run_id or abs(process["started_at"] - service.started_at) > (
            _START_TOLERANCE_SECONDS
        ):
            raise CheckFailed(
                f"pid {service.pid} on {service.node} is not the {service.name} that this run started: {process}",
                {service.name: seen},
                hint="another program took the process id; run again",
                class_="infrastructure",
                spoils_judgement=True,
            )
        evidence[service.name] = _socket_owner(trial, service, seen)
        if service.kind in kinds:
            evidence[service.name]["models"] = _model(trial, service)
    return evidence


def _socket_owner(trial: Trial, service: Service, seen: dict[str, Any]) -> dict[str, Any]:
    strangers = [
        listener
        for listener in seen["listeners"]
        if listener["process"] is None or listener["process"]["pid"] not in seen["pids"]
    ]
    if strangers or not seen["listeners"]:
        owner = strangers[0]["process"] if strangers else None
        told = f"pid {owner['pid']} ({owner['command']})" if owner else "a process of another user or nobody"
        raise CheckFailed(
            f"{service.address}:{service.port} on {service.node} is answered by {told}, not by the {service.name} that "
            f"this run started as pid {service.pid}",
            {service.name: seen},
            hint=f"end what holds port {service.port} on {service.node}, then run again",
            class_="infrastructure",
            spoils_judgement=True,
        )
    return {
        "node": service.node,
        "run": trial.deployment.run_id,
        "pid": service.pid,
        "started_at": seen["process"]["started_at"],
        "socket": f"{seen['listeners'][0]['address']}:{service.port}",
        "socket_owner": seen["listeners"][0]["process"]["pid"],
    }


def _model(trial: Trial, service: Service) -> list[str]:
    wanted = trial.deployment.served.name
    exchange = exercise.get(service.url + trial.engine.models_path, _ANSWER_SECONDS)
    try:
        models = trial.engine.served_models(exchange.json())
    except ValueError as error:
        if trial.nodes.ended([service]):
            raise died(trial, service) from error
        raise CheckFailed(
            f"{service.name} on {service.node} does not say which model it serves: {exchange.problem or error}",
            {"exchange": exchange.transcript()},
            hint=f"read {service.log} on {service.node}",
        ) from error
    if wanted not in models:
        raise CheckFailed(
            f"{service.name} on {service.node} serves {', '.join(models)}, not {wanted}",
            {"exchange": exchange.transcript()},
            hint="the server was started with another model: look at its command in deployment.json",
            class_="configuration",
            spoils_judgement=True,
        )
    return models
