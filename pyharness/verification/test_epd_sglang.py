"""Verification of test_epd_sglang: that of one pair of servers, and what lies between the encoder and prefill."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyharness.verification import embedding, one_pair, server_info, services, wheel

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial

_ASKED = ("router_ready", "answer_correct", "kv_cache_moved", "transport_used")
CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "encoder_apart",
    "encoder_ready",
    *_ASKED,
    "embedding_received",
    "embedding_moved",
)


def verify(trial: Trial) -> bool:
    """Check what runs, before any request. Returns whether it makes sense to send requests."""
    backend = _backend(trial)
    moves = ("prefill", "decode", *(["encoder"] if backend == "mooncake" else []))
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial, moves))
    # A prefill server without a vision tower can have what it knows of the picture from an encoder only.
    wanted: dict[str, dict[str, Any]] = {
        "prefill": {"language_only": True, "encoder_transfer_backend": backend},
        "decode": {"language_only": False, "encoder_only": False},
    }
    apart = trial.recorder.run("encoder_apart", lambda: server_info.as_deployed(trial, wanted))
    if not (ours and apart):
        trial.skip(CHECKS[3:], "the services that answer are not the ones that were asked for")
    return ours and apart


def exercise(trial: Trial) -> None:
    """Send requests and check what came of them."""
    seen: list[embedding.Seen] = []

    def counts() -> Evidence:
        seen.append(embedding.snapshot(trial))
        return {"encoders": {name: asdict(counted) for name, counted in seen[0].encoders.items()}}

    def moved() -> Evidence:
        after = embedding.snapshot_after(trial, seen[0])
        return embedding.embedding_moved(trial, seen[0], after, _backend(trial))

    if not trial.recorder.run("encoder_ready", counts):
        trial.skip(CHECKS[4:], "the encoder does not answer")
        return
    one_pair.exercise(trial)
    trial.recorder.run("embedding_received", lambda: embedding.embedding_received(trial))
    asked = {check.id: check for check in trial.recorder.checks}
    if "kv_cache_moved" not in asked or asked["kv_cache_moved"].status == "skipped":
        trial.skip(["embedding_moved"], "there was no answer whose picture could be looked at")
        return
    trial.recorder.run("embedding_moved", moved)


def _backend(trial: Trial) -> str:
    """Return how the encoder hands over in this variant, as SGLang calls it."""
    variant = trial.case.variant(trial.deployment.variant)
    return str(variant.values["encoder_transfer"]) if variant else ""
