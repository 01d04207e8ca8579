"""Verification of test_moe_mooncake: experts on two ranks over Mooncake, or ranks of its process group alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import exercise as asking
from pyharness.verification import answer, blame, elastic_experts, links, mmlu, process_group, services, wheel

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "experts_spread",
    "answer_correct",
    "collectives_over_mooncake",
    "mmlu_score",
)


def verify(trial: Trial) -> bool:
    """Check what runs, before any request. Returns whether it makes sense to go on."""
    if trial.deployment.of_kind("rank"):
        return process_group.verify(trial)
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial, kinds=("single",)))
    if not ours:
        trial.skip(CHECKS[2:], "the server that answers is not the one that was deployed")
        return False
    return trial.recorder.run("experts_spread", lambda: elastic_experts.experts_spread(trial))


def exercise(trial: Trial) -> None:
    """Ask, and check what came of it."""
    variant = trial.case.variant(trial.deployment.variant)
    if trial.deployment.of_kind("rank"):
        process_group.exercise(trial, str((variant.values if variant else {})["lost"]))
        return
    request, reference = trial.case.asked, trial.deployment.reference
    url = trial.deployment.entry + request.path
    (server,) = trial.deployment.of_kind("single")
    done = asking.not_asked(url)

    def answered() -> Evidence:
        nonlocal done
        done = trial.send(url, request.body, request.timeout_seconds)
        blame.failed_request(trial, done)
        return answer.answer_correct(done, trial.engine, reference.answer, reference.method, request.pattern)

    before = links.look(trial, [server])
    trial.recorder.run("answer_correct", answered)
    try:
        told = done.json()["meta_info"]
        tokens = int(told["prompt_tokens"]) + int(told["completion_tokens"]) - 1
    except (ValueError, KeyError, TypeError):
        trial.skip(CHECKS[4:], "there was no answer whose collective operations could be looked at")
        return
    if trial.deployment.engine.platform == "cpu":
        after = links.look(trial, [server])
        trial.recorder.run(
            "collectives_over_mooncake",
            lambda: elastic_experts.collectives_over_mooncake(trial, before, after, tokens),
        )
    else:
        told_why = "between GPUs they go by ways that no counter of the node's kernel sees"
        trial.recorder.skip("collectives_over_mooncake", told_why)
    if int(trial.workload["mmlu_questions"]) > 0:
        trial.recorder.run("mmlu_score", lambda: mmlu.mmlu_score(trial))
    else:
        trial.recorder.skip("mmlu_score", "this inventory asks no questions (mmlu_questions is 0)")
