"""Verification of test_hicache_storage_mooncake_backend: SGLang takes from Mooncake Store what it no longer has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import arena, hicache, hicache_evaluation, services, wheel
from pyharness.verification.hicache_prompt import LongPrompt

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

KINDS = ("single",)
CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "cache_as_asked",
    "arena_as_asked",
    "server_ready",
    "answer_correct",
    "pages_in_master",
    "cache_flushed",
    "served_from_storage",
    "same_text",
    "storage_counted",
    "evaluation_agrees",
)


def verify(trial: Trial) -> bool:
    """Check what runs, before any request. Returns whether it makes sense to send requests."""
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial, KINDS))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial, (*KINDS, "master")))
    if not ours:
        trial.skip(CHECKS[2:], "the services that answer are not the ones that were deployed")
        return False
    values = hicache.variant(trial)
    trial.recorder.run("cache_as_asked", lambda: hicache.cache_as_asked(trial))
    trial.recorder.run(
        "arena_as_asked",
        lambda: arena.arena_as_asked(
            trial,
            asked=bool(values.get("arena")),
            arena_bytes=int(trial.workload["arena_bytes"]),
            ranks=hicache.ranks(trial),
        ),
    )
    return True


def exercise(trial: Trial) -> None:
    """Send requests and check what came of them."""
    recorder, prompt = trial.recorder, LongPrompt(trial)
    if not recorder.run("server_ready", prompt.one_token):
        trial.skip(CHECKS[5:], "the server gave no answer")
        return
    recorder.run("answer_correct", prompt.short_answer)
    if not recorder.run("pages_in_master", prompt.ask_twice):
        trial.skip(CHECKS[7:], "the master does not have the pages of the prompt")
        return
    if not recorder.run("cache_flushed", prompt.ask_after_flush):
        trial.skip(CHECKS[8:], "the caches before the storage were not flushed, so nothing follows for the storage")
        return
    recorder.run("served_from_storage", prompt.served_from_storage)
    recorder.run("same_text", prompt.same_text)
    recorder.run("storage_counted", prompt.storage_counted)
    if trial.deployment.variant in trial.workload["evaluation_variants"]:
        recorder.run("evaluation_agrees", lambda: hicache_evaluation.evaluation_agrees(trial))
