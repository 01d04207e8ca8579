"""Verification of test_dynamo_disagg: the services that answer are the ones that this run deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import services

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

CHECKS = ("services_are_ours",)


def verify(trial: Trial) -> bool:
    """Check what runs."""
    return trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial, kinds=()))


def exercise(trial: Trial) -> None:
    """Send nothing."""
    del trial


__all__ = ["CHECKS", "exercise", "verify"]
