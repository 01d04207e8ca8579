"""Verification of test_mooncake_store: what is put into Mooncake Store is what is got, whatever happens meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import links, services, store_checks, store_outages, wheel
from pyharness.verification.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.verification.base import Evidence, Trial
    from pyharness.verification.links import Moved

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "objects_right",
    "transport_used",
    "existing_key_kept",
    "replicas_placed",
    "lease_honoured",
    "eviction_right",
    "client_loss_survived",
    "master_loss_told",
)


def verify(trial: Trial) -> bool:
    """Check what runs, before anything is put."""
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial, kinds=()))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial, kinds=("master", "client")))
    if not ours:
        trial.skip(CHECKS[2:], "the services that answer are not the ones that were deployed")
    return ours


def exercise(trial: Trial) -> None:
    """Put, get, fill, kill, and check what came of it."""
    store = Store(trial)
    moves: list[Moved] = []
    before = links.look(trial, store.clients)
    trial.recorder.run("objects_right", lambda: store_checks.objects_right(store, moves))
    after = links.look(trial, store.clients)
    used, evidence = links.transport_of(trial, moves, before, after)
    trial.note_transport(used, evidence)
    requested = trial.deployment.transport.requested
    trial.recorder.run("transport_used", lambda: links.as_asked(used, evidence, requested))
    checks: dict[str, Callable[[Store], Evidence]] = {
        "existing_key_kept": store_checks.existing_key_kept,
        "replicas_placed": store_checks.replicas_placed,
        "lease_honoured": store_checks.lease_honoured,
        "eviction_right": store_checks.eviction_right,
        "client_loss_survived": store_outages.client_loss_survived,
        "master_loss_told": store_outages.master_loss_told,
    }
    for name, check in checks.items():
        trial.recorder.run(name, lambda check=check: check(store))  # type: ignore[misc]
