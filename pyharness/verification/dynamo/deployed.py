"""What a deployment of Dynamo has, as its own services tell it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import model_ready, services, waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, metrics
from pyharness.verification.model_ready import Wanted

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

_ANSWER_SECONDS = 10.0


def instances(trial: Trial) -> list[dict[str, Any]]:
    """Return the workers that the frontend has discovered, as its /health lists them; none where it does not answer."""
    try:
        document = exercise.get(f"{trial.deployment.entry}/health", _ANSWER_SECONDS).json()
        found = document["instances"]
    except (ValueError, TypeError, KeyError):
        return []
    return [one for one in found if isinstance(one, dict) and one.get("endpoint") == metrics.SERVING]


def values(trial: Trial) -> dict[str, Any]:
    """Return what the trial's variant sets."""
    variant = trial.case.variant(trial.deployment.variant or "")
    return dict(variant.values) if variant else {}


def simulated(trial: Trial) -> bool:
    """Return whether the workers are Dynamo's simulated engine, which can be told how slow to be."""
    return any("dynamo.mocker" in service.command for service in metrics.workers(trial))


def wanted(trial: Trial) -> Wanted:
    """Return what has to be there before anything else is asked: every worker, the model, an answer of one token."""
    body = trial.engine.one_token(asking.chat(trial, "Ready?", 1))
    return Wanted(
        instances=len(metrics.workers(trial)),
        discovered=lambda: len(instances(trial)),
        frontend=trial.deployment.entry,
        path=asking.CHAT,
        body=body,
        seconds=float(trial.workload["discovery_seconds"]),
    )


# What `ready` makes, first of all.
CHECKS = ("services_are_ours", "model_available", "every_worker_answers")


def ready(trial: Trial, checks: tuple[str, ...]) -> bool:
    """Check what runs, and wait until every worker answers.

    Args:
        trial: whose services.
        checks: all that the test case makes, `CHECKS` first.

    Returns:
        whether it makes sense to ask more.
    """
    made = (
        lambda: services.services_are_ours(trial, kinds=()),
        lambda: model_ready.model_available(trial, wanted(trial)),
        lambda: every_worker_answers(trial),
    )
    for place, (name, check) in enumerate(zip(CHECKS, made, strict=True), start=1):
        if not trial.recorder.run(name, check):
            trial.skip(checks[place:], f"{name} has failed")
            return False
    return True


def every_worker_answers(trial: Trial, kinds: tuple[str, ...] = ("worker", "decode")) -> Evidence:
    """Wait for a round of requests in which none fails and every worker answers at least one.

    The first that answers says nothing of the others, and one that was too slow is left out by the frontend for a while
    (`DYN_RUNTIME_INHIBITED_DURATION_SECS`).

    Args:
        trial: whose workers.
        kinds: the workers that give answers.

    Raises:
        CheckFailed: there was no such round within the workload's `well_seconds`.
    """
    wanted = {service.name for service in metrics.workers(trial, kinds)}
    rounds: list[dict[str, Any]] = []

    def well() -> bool:
        names = metrics.worker_ids(trial)
        prompts = [asking.prompt(f"round {len(rounds)} {place}", 20) for place in range(2 * len(wanted))]
        done = asking.side_by_side(lambda one: asking.ask(trial, one, 2), prompts, len(prompts))
        failed = [told for exchange in done if (told := asking.problem(exchange))]
        by = Counter(names.get(asking.reply(one).decode or 0, "?") for one in done if not asking.problem(one))
        rounds.append({"answered": dict(by), "failed": failed[:2]})
        return not failed and set(by) == wanted

    right, seconds = waiting.until(well, float(trial.workload["well_seconds"]))
    evidence = {"seconds": seconds, "rounds": len(rounds), "first": rounds[0], "last": rounds[-1]}
    if not right:
        raise CheckFailed(
            f"after {seconds} s not every worker answers: {rounds[-1]}, and {sorted(wanted)} are there",
            evidence,
            hint="see the frontend's log for workers that it cannot reach, or has put into quarantine",
        )
    return evidence
