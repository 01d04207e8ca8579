"""Verification of test_dynamo_disagg: prefill and decode apart, decode alone, and a router that is free to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import faults
from pyharness.verification import model_ready, services
from pyharness.verification.dynamo import asking, deployed, metrics, splitting

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Evidence, Trial

CHECKS = (
    "services_are_ours",
    "not_served_without_prefill",
    "health_tells_of_no_model",
    "prefill_joins",
    "model_available",
    "every_worker_answers",
    "split",
    "short_rest_local",
    "long_rest_split",
    "not_served_after_prefill",
)


def verify(trial: Trial) -> bool:
    """Check what runs. Where prefill is to join later, nothing is served before, and then it joins."""
    run = trial.recorder.run
    if not run("services_are_ours", lambda: services.services_are_ours(trial, kinds=())):
        trial.skip(CHECKS[1:], "the services that answer are not the ones that were deployed")
        return False
    for prefill in trial.deployment.later:
        if not _alone(trial, prefill):
            trial.skip(CHECKS[4:], "there is no prefill worker")
            return False
    if not run("model_available", lambda: model_ready.model_available(trial, deployed.wanted(trial))):
        trial.skip(CHECKS[5:], "the model does not answer")
        return False
    return run("every_worker_answers", lambda: deployed.every_worker_answers(trial, ("decode",)))


def exercise(trial: Trial) -> None:
    """Ask new prompts, and, where the router may choose, prompts of which decode has the beginning."""
    run, names, following = trial.recorder.run, metrics.worker_ids(trial), splitting.followers(trial)
    new = [asking.prompt(f"new {length}", length) for length in _lengths(trial, "prompt_lengths")]
    run("split", lambda: splitting.split(trial, splitting.ask(trial, new, following), names))
    if _conditional(trial):
        # Their beginnings were answered by decode above, and the router remembers what it had sent there.
        short, long = (
            [begun + _rest(trial, name, begun) for begun in new[-2:]] for name in ("short_rest", "long_rest")
        )
        run("short_rest_local", lambda: splitting.local(trial, splitting.ask(trial, short, following), names))
        run("long_rest_split", lambda: splitting.split(trial, splitting.ask(trial, long, following), names))
    for prefill in trial.deployment.later:
        _leaves(trial, prefill)


def _alone(trial: Trial, prefill: Service) -> bool:
    """Check what decode alone does, and have prefill join. Returns whether it has."""
    said: list[Exchange] = []

    def refused() -> Evidence:
        said.extend(splitting.decode_alone(trial))
        return splitting.not_served(said[0], said[1])

    trial.recorder.run("not_served_without_prefill", refused)
    if said:
        trial.recorder.run(
            "health_tells_of_no_model", lambda: splitting.health_tells(said[2], splitting.listed(said[1]))
        )
    return trial.recorder.run("prefill_joins", lambda: faults.for_good(trial, faults.Start(prefill)))


def _leaves(trial: Trial, prefill: Service) -> None:
    """Ask prefill to end, and check that nothing is served again."""

    def without() -> Evidence:
        gone = faults.for_good(trial, faults.Terminate(prefill, float(trial.workload["drain_seconds"]), back=False))
        return {"prefill": gone, **splitting.no_more_served(trial)}

    trial.recorder.run("not_served_after_prefill", without)


def _lengths(trial: Trial, name: str) -> list[int]:
    return [int(length) for length in trial.workload[name]]


def _rest(trial: Trial, name: str, begun: list[int]) -> list[int]:
    return asking.prompt(f"{name} {len(begun)}", int(trial.workload[f"{name}_tokens"]))


def _conditional(trial: Trial) -> bool:
    return "--router-conditional-disagg" in deployed.values(trial).get("frontend_arguments", [])


__all__ = ["CHECKS", "exercise", "verify"]
