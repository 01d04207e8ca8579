"""Verification of test_disaggregation_different_tp: that of test_1p1d_erdma, between servers of different ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import one_pair, server_info, services, wheel

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

_ASKED = one_pair.CHECKS[2:]
CHECKS = ("services_are_ours", "wheel_in_use", "ranks_as_declared", *_ASKED)


def verify(trial: Trial) -> bool:
    """Check what runs, before any request. Returns whether it makes sense to send requests."""
    variant = trial.case.variant(trial.deployment.variant)
    declared = variant.values if variant else {}
    wanted = {kind: {"tp_size": declared[f"{kind}_ranks"]} for kind in ("prefill", "decode")}
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial))
    differ = trial.recorder.run("ranks_as_declared", lambda: server_info.as_deployed(trial, wanted))
    if not (ours and differ):
        trial.skip(_ASKED, "the servers that answer are not the ones that were asked for")
    return ours and differ


def exercise(trial: Trial) -> None:
    """Send requests and check what came of them."""
    one_pair.exercise(trial)
