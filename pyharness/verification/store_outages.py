"""Checks of a Mooncake Store in which a client or the master is killed, and comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pyharness import faults
from pyharness.verification import agents
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.store import OK, Store
from pyharness.verification.waiting import until

if TYPE_CHECKING:
    from pyharness.deployment import Service

# On top of the time after which the master takes a client for gone.
_LATE_SECONDS = 10.0
# How long clients may take to find a master that came back, or it them, from when the one that was away is ready.
_BACK_SECONDS = 30.0


def client_loss_survived(store: Store) -> Evidence:
    """Check that with a client that is killed its segment goes in time, and nothing else; and that it can come back."""
    survivor, victim = store.clients
    size = max(store.trial.workload["sizes"])
    store.clear()
    mine, theirs = store.segment(survivor), store.segment(victim)
    store.must_put(survivor, {"stays": size}, segments=[mine])
    store.must_put(survivor, {"goes": size}, segments=[theirs])
    store.must_put(survivor, {"on_both": size}, replicas=2)
    store.must_get(survivor, ["stays", "goes", "on_both"])

    with faults.injected(
        store.trial,
        faults.Kill(victim),
        limit_seconds=victim.ready_timeout + _BACK_SECONDS,
        recovered=lambda: store.segment(victim) in store.segments(),
    ) as hold:
        evidence: Evidence = {"segment": theirs, **_alone(store, survivor, theirs)}
    _works(store, "after_client", (survivor, victim))
    store.must_get(victim, ["stays", "on_both"])
    return {**evidence, "fault": hold.evidence}


def _alone(store: Store, survivor: Service, segment: str) -> Evidence:
    """Check what holds while the client with that segment is dead. See `client_loss_survived`."""

    def vanished() -> bool:
        # All the time, and not only when the master knows: what the survivor has is there, and nothing is another one.
        store.must_get(survivor, ["stays", "on_both"], when="while another client is dead")
        store.get(survivor, ["goes"])
        return segment not in store.segments()

    ttl = store.trial.workload["client_ttl_seconds"]
    gone, waited = until(vanished, ttl + _LATE_SECONDS)
    if not gone:
        raise CheckFailed(
            f"segment {segment} is still with the master {waited:g} s after its client was killed, and a client's time "
            f"to live is {ttl:g} s",
            {"segments": sorted(store.segments())},
            hint=f"see {store.master.log}",
        )
    exists, got, listed = store.exist(survivor, ["goes"])[0], store.get(survivor, ["goes"]), store.listed()
    if exists or got["goes"] or "goes" in listed:
        raise CheckFailed(
            f"an object that lay in {segment} alone is still told of after that segment has gone",
            {"exist": exists, "get": got["goes"], "listed": "goes" in listed},
            hint=f"see {store.master.log}",
        )
    store.must_put(survivor, {"put_alone": max(store.trial.workload["sizes"])})
    store.must_get(survivor, ["stays", "on_both", "put_alone"])
    return {"segment_gone_after_seconds": waited}


def _works(store: Store, name: str, clients: tuple[Service, Service]) -> None:
    """Check that each client can put into each segment, and both get it."""
    size = max(store.trial.workload["sizes"])
    for client in clients:
        for owner in clients:
            key = f"{name}_{client.name}_{owner.name}"
            store.must_put(client, {key: size}, segments=[store.segment(owner)])
            for reader in clients:
                store.must_get(reader, [key])


def master_loss_told(store: Store) -> Evidence:
    """Check that without a master no client tells success or other bytes, and that all of them find a new one."""
    first, second = store.clients
    keys = ["before_master"]
    store.clear()
    store.must_put(first, dict.fromkeys(keys, 4096), replicas=2)

    with faults.injected(
        store.trial,
        faults.Kill(store.master),
        limit_seconds=store.master.ready_timeout + _BACK_SECONDS,
        recovered=lambda: {store.segment(client) for client in store.clients} <= store.segments().keys(),
    ) as hold:
        evidence = _without_master(store, keys)
    # Without high availability it has forgotten all objects. That is no failure; what it does tell has to be right.
    evidence["survived"] = [key for key, there in store.get(second, keys).items() if there]
    _works(store, "after_master", (first, second))
    return {**evidence, "fault": hold.evidence}


def _without_master(store: Store, keys: list[str]) -> Evidence:
    """Check what clients say while there is no master. See `master_loss_told`."""
    first, second = store.clients
    # Each of them takes Mooncake's own time-out: side by side, one for each client.
    with ThreadPoolExecutor(2) as pool:
        put = pool.submit(store.put, first, {"without_master": 4096})
        exist = pool.submit(store.exist, second, keys)
        answers = {"put": put.result()[0], "exist": exist.result()[0]}
    # Mooncake finds this out in its own time.
    noticed, waited = until(
        lambda: agents.ask(store.trial, first, "check", {})["code"],
        store.trial.workload["client_ttl_seconds"] + _LATE_SECONDS,
    )
    evidence = {
        "answers": {**answers, "check": noticed},
        "noticed_after_seconds": waited,
        "got": store.get(first, keys),
    }
    if answers["put"] == OK or answers["exist"] >= 0 or noticed == OK:
        raise CheckFailed(
            f"there is no master, and clients do not say so: put {answers['put']}, exist {answers['exist']}, "
            f"check {noticed}",
            evidence,
            hint="put and health check have to answer other than 0, exist below 0",
        )
    return evidence
