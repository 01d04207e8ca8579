"""Checks of a Mooncake Store in which nothing is broken: what is put stays what it is, and lies where it should."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.links import Moved
from pyharness.verification.store import NO_AVAILABLE_HANDLE, OBJECT_HAS_LEASE, OK, Store
from pyharness.verification.waiting import until

if TYPE_CHECKING:
    from pyharness.deployment import Service

WAYS = ("bytes", "into", "batch")
# What the master does in its own time, such as evicting: how long to wait for it.
_LATE_SECONDS = 10.0
_LEASE_TRIES = 3


def objects_right(store: Store, moves: list[Moved]) -> Evidence:
    """Check that objects of all sizes come back whole, by every client, from every segment, in every way to get them.

    Args:
        store: the store.
        moves: takes what had to cross between the clients.
    """
    sizes, evidence = list(store.trial.workload["sizes"]), {}
    for writer, other in store.both():
        for owner in (writer, other):
            batch = {f"{writer.name}_{owner.name}_{size}": size for size in sizes}
            store.must_put(writer, batch, segments=[store.segment(owner)])
            if owner is other:
                moves.append(Moved(writer, other, sum(sizes)))
        batch = {f"{writer.name}_batch_{size}": size for size in sizes}
        store.must_put(writer, batch, batch=True)
    keys = list(store.truth)
    for reader in store.clients:
        for way in WAYS:
            store.must_get(reader, keys, way)
        codes = store.exist(reader, keys) + store.exist(reader, keys, batch=True)
        if set(codes) != {1}:
            raise CheckFailed(
                f"{reader.name} says that objects do not exist which it gets",
                {"codes": codes},
                hint=f"see {reader.log}",
            )
        evidence[reader.name] = _absent(store, reader)
    listed = store.listed()
    if not set(keys) <= listed:
        raise CheckFailed(
            f"the master does not list {min(set(keys) - listed)}, which clients get",
            {"lacks": sorted(set(keys) - listed)},
            hint=f"see {store.master.log}",
        )
    return {"objects": len(keys), "sizes": sizes, "ways": list(WAYS), "of_no_object": evidence}


def _absent(store: Store, client: Service) -> Evidence:
    """Check that a client finds nothing under a key that was never put."""
    key = "never_put"
    store.truth[key] = (key, 1)
    found = {way: store.get(client, [key], way)[key] for way in WAYS}
    del store.truth[key]
    exists, removed = store.exist(client, [key])[0], store.remove(client, [key])[0]
    answers = {"got": found, "exists": exists, "remove": removed}
    if any(found.values()) or exists != 0 or removed == OK:
        raise CheckFailed(f"{client.name} finds an object that was never put", answers, hint=f"see {client.log}")
    return answers


def existing_key_kept(store: Store) -> Evidence:
    """Check that a put under a key that exists leaves the object that is there, whole."""
    size, evidence = max(store.trial.workload["sizes"]), {}
    store.clear()
    for client, other in store.both():
        key = f"existing_{client.name}"
        store.must_put(client, {key: size})
        answers = [store.put(who, {key: size}, seed="second")[0] for who in (client, other)]
        for reader in store.clients:
            store.must_get(reader, [key], when="after another put under its key")
        evidence[key] = {"answers_to_the_second_put": answers}
    return evidence


def replicas_placed(store: Store) -> Evidence:
    """Check that an object has the replicas that were asked for, each whole, and lies in the segment that was named."""
    known = {name: entry["te_endpoint"] for name, entry in store.segments().items()}
    evidence: Evidence = {"segments": known}
    store.clear()
    for client, other in store.both():
        names = [store.segment(client), store.segment(other)]
        for key, how, wanted in (
            (f"two_replicas_{client.name}", {"replicas": 2}, names),
            (f"here_{client.name}", {"segments": names[:1]}, names[:1]),
            (f"there_{client.name}", {"segments": names[1:]}, names[1:]),
        ):
            store.must_put(client, {key: max(store.trial.workload["sizes"])}, **how)
            told = store.where(other, key)
            places = {
                "asked": sorted(str(known.get(name)) for name in wanted),
                "client": sorted(str(entry["endpoint"]) for entry in told),
                "master": store.replicas(key),
                "status": sorted({str(entry["status"]) for entry in told}),
            }
            if not places["asked"] == places["client"] == places["master"] or places["status"] != ["COMPLETE"]:
                raise CheckFailed(
                    f"{key} was to lie at {', '.join(places['asked'])}, and lies at {', '.join(places['client'])} "
                    f"({', '.join(places['status'])}), as the master says at {', '.join(places['master'])}",
                    places,
                    hint="with fewer replicas than asked for an object does not outlive a client",
                )
            evidence[key] = places["master"]
            for reader in store.clients:
                store.must_get(reader, [key])
    return evidence


def lease_honoured(store: Store) -> Evidence:
    """Check that an object that was just read cannot be removed before its lease ends, and can afterwards."""
    lease = store.trial.workload["lease_seconds"]
    reader, remover = store.clients
    for attempt in range(_LEASE_TRIES):
        key = f"leased_{attempt}"
        store.must_put(remover, {key: 4096})
        started = time.monotonic()
        store.must_get(reader, [key])
        code = store.remove(remover, [key])[0]
        spent = round(time.monotonic() - started, 3)
        if spent >= lease:
            continue  # this machine was too slow: nothing follows
        if code != OBJECT_HAS_LEASE:
            raise CheckFailed(
                f"Mooncake answered {code} to removing an object {spent:g} s after it was read, within its lease of "
                f"{lease:g} s",
                {"code": code, "after_seconds": spent},
                hint=f"it has to answer {OBJECT_HAS_LEASE} (OBJECT_HAS_LEASE); see {store.master.log}",
            )
        store.must_get(reader, [key], when="although its lease kept it from being removed")
        removed, waited = until(lambda key=key: store.remove(remover, [key])[0] == OK, lease + _LATE_SECONDS)  # type: ignore[misc]
        left = [
            client.name for client in store.clients if store.exist(client, [key])[0] or store.get(client, [key])[key]
        ]
        if not removed or left or key in store.listed():
            raise CheckFailed(
                f"{key} is still there after it was removed, {waited:g} s after its last lease of {lease:g} s began"
                if removed
                else f"{key} cannot be removed {waited:g} s after it was read last, and its lease is {lease:g} s",
                {"found_by": left, "listed": key in store.listed()},
                hint=f"see {store.master.log}",
            )
        return {"refused_after_seconds": spent, "code": code, "removed_after_seconds": waited}
    raise CheckFailed(
        f"reading and removing took longer than the lease of {lease:g} s, {_LEASE_TRIES} times",
        hint="the machine is too busy for this lease: raise lease_seconds in the workload",
        class_="test",
    )


def eviction_right(store: Store) -> Evidence:
    """Check a store that is filled twice over: there is room for what is new, and nothing turns into another object.

    Soft-pinned objects stay while there are others, and objects under lease stay.
    """
    figures = store.trial.workload
    store.clear()
    writer, reader = store.clients
    size, lease = figures["eviction_bytes"], figures["lease_seconds"]
    capacity = sum(entry["size_bytes"] for entry in store.segments().values())
    pinned = {f"pinned_{index}": size for index in range(4)}
    store.must_put(writer, pinned, soft_pin=True)
    leased = {f"held_{index}": size for index in range(4)}
    store.must_put(writer, leased)
    started = time.monotonic()
    store.must_get(reader, leased)
    filling = {f"filling_{index}": size for index in range(2 * capacity // size)}
    pending = dict(filling)
    codes: list[int] = []

    def put_the_rest() -> bool:
        """Put what had no room yet: the master evicts in its own time, and asks for patience by NO_AVAILABLE_HANDLE."""
        answers = dict(zip(pending, store.put(writer, pending), strict=True))
        codes.extend(answers.values())
        for key, code in answers.items():
            if code == OK:
                del pending[key]
        return not pending or bool(set(codes) - {OK, NO_AVAILABLE_HANDLE})

    until(put_the_rest, lease + _LATE_SECONDS)
    spent = round(time.monotonic() - started, 3)
    listed = store.listed()
    used = {name: entry["allocator_used_bytes"] for name, entry in store.segments().items()}
    evidence: Evidence = {
        "capacity": capacity,
        "put_bytes": len(filling) * size,
        "refused": codes.count(NO_AVAILABLE_HANDLE),
        "left": len(listed & filling.keys()),
        "used": used,
        "filled_in_seconds": spent,
    }
    if pending:
        raise CheckFailed(
            f"{len(pending)} of {len(filling)} objects of {size} bytes could not be put into {capacity} bytes within "
            f"{spent:g} s; Mooncake answered {sorted(set(codes))}",
            evidence,
            hint=f"a full store has to evict what nobody holds: see {store.master.log}",
        )
    # Each of them is right, or gone. What is evicted meanwhile is gone for the master too by the time of a second look.
    missing = {key for key, found in store.get(reader, filling).items() if not found} & store.listed()
    gone = sorted(key for key, found in store.get(reader, missing).items() if not found and key in store.listed())
    lost = sorted(pinned.keys() - listed) + (sorted(leased.keys() - listed) if spent < lease else [])
    if lost or gone:
        key = (lost or gone)[0]
        reason = (
            "is soft-pinned" if key in pinned else "was under lease" if key in leased else "is listed by the master"
        )
        raise CheckFailed(
            f"{key} {reason}, and is gone from a store in which others could have been evicted"
            if lost
            else f"{key} {reason}, and {reader.name} does not get it",
            {**evidence, "gone": gone, "lost": lost},
            hint=f"see {store.master.log}",
        )
    store.must_get(reader, pinned)
    # All that was just read is under lease now. When that ends there has to be room again.
    taken, waited = until(lambda: store.put(writer, {"after_full": size})[0] == OK, lease + _LATE_SECONDS)
    if not taken:
        raise CheckFailed(
            f"nothing can be put into a full store, {waited:g} s after the last read", evidence, hint="leases are over"
        )
    store.must_get(reader, ["after_full"])
    return {**evidence, "held_under_lease": spent < lease, "room_again_after_seconds": waited, **store.clear()}
