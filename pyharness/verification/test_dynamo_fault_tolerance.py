"""Verification of test_dynamo_fault_tolerance: faults of each kind, what clients have of them, and the way back.

Each variant has faults of its own, one after the other in one deployment: each ends with all as it was before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification.dynamo import (
    deployed,
    disaggregated_faults,
    leaving_clients,
    outages,
    stalling,
    streams,
    worker_faults,
)

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

# The checks of each variant, in their order.
OF_VARIANT = {
    "migration": (
        "worker_kill_survived",
        "usage_after_migration",
        "worker_named_after_migration",
        "worker_drains",
        "worker_stall_survived",
        "client_cancel_stops_worker",
    ),
    "no_migration": (
        "worker_kill_told",
        "worker_stopped_and_dropped",
        "worker_stall_told",
        "worker_rejoins",
    ),
    "etcd_nats": ("etcd_outage_survived", "newcomer_after_etcd", "nats_outage_survived", "newcomer_after_nats"),
    "disaggregated": (
        "decode_kill_survived",
        "usage_after_migration",
        "worker_named_after_migration",
        "prefill_kill_survived",
    ),
}
CHECKS = (*deployed.CHECKS, *dict.fromkeys(check for checks in OF_VARIANT.values() for check in checks))


def verify(trial: Trial) -> bool:
    """Check what runs, and wait until every worker answers."""
    return deployed.ready(trial, (*deployed.CHECKS, *OF_VARIANT[str(trial.deployment.variant)]))


def exercise(trial: Trial) -> None:
    """Make the variant's faults."""
    {
        "migration": _migration,
        "no_migration": _no_migration,
        "etcd_nats": _etcd_nats,
        "disaggregated": _disaggregated,
    }[str(trial.deployment.variant)](trial)


def _migration(trial: Trial) -> None:
    run = trial.recorder.run
    moved: list[worker_faults.Moved] = []
    run("worker_kill_survived", lambda: worker_faults.kill_survived(trial, "killed", moved))
    _after(trial, moved)
    run("worker_drains", lambda: worker_faults.drains(trial, "drained"))
    run("worker_stall_survived", lambda: worker_faults.stall_survived(trial, "stopped"))
    run("client_cancel_stops_worker", lambda: leaving_clients.cancel_stops(trial, "left"))


def _no_migration(trial: Trial) -> None:
    run = trial.recorder.run
    run("worker_kill_told", lambda: worker_faults.kill_told(trial, "killed"))
    found = stalling.Stalled()
    if not run("worker_stopped_and_dropped", lambda: stalling.stop_until_dropped(trial, "stopped", found)) and not (
        found.stood_still or found.evidence
    ):
        trial.skip(("worker_stall_told", "worker_rejoins"), "no worker was stopped")
        return
    run("worker_stall_told", lambda: stalling.told_in_time(found))
    run("worker_rejoins", lambda: stalling.rejoins(trial, found))


def _etcd_nats(trial: Trial) -> None:
    run = trial.recorder.run
    run("etcd_outage_survived", lambda: outages.etcd_outage_survived(trial, "without etcd"))
    run("newcomer_after_etcd", lambda: outages.newcomer_found(trial))
    run("nats_outage_survived", lambda: outages.nats_outage_survived(trial, "without nats"))
    run("newcomer_after_nats", lambda: outages.newcomer_found(trial))


def _disaggregated(trial: Trial) -> None:
    moved: list[worker_faults.Moved] = []
    trial.recorder.run("decode_kill_survived", lambda: worker_faults.kill_survived(trial, "killed", moved))
    _after(trial, moved)
    trial.recorder.run(
        "prefill_kill_survived", lambda: disaggregated_faults.prefill_kill_survived(trial, "prefill killed")
    )


def _after(trial: Trial, moved: list[worker_faults.Moved]) -> None:
    """Make the checks of a stream that has moved to another worker."""
    if not moved:
        trial.skip(("usage_after_migration", "worker_named_after_migration"), "no stream has moved")
        return
    stream = moved[0]
    trial.recorder.run("usage_after_migration", lambda: streams.counts_right(stream.told, stream.prompt_tokens))
    trial.recorder.run("worker_named_after_migration", lambda: worker_faults.named_right(stream))


__all__ = ["CHECKS", "exercise", "verify"]
