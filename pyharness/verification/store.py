"""Mooncake Store as its clients and its master show it, beside what the harness knows to be true.

What lies under a key follows from a seed. Whoever reads through here has every object compared with what was put first
under its key: an object may be gone, and then says so, but never is it another one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import agents
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

# Mooncake 0.3, mooncake-store/include/types.h: ErrorCode.
OK = 0
NO_AVAILABLE_HANDLE = -200
OBJECT_NOT_FOUND = -704
OBJECT_HAS_LEASE = -706

_MASTER_SECONDS = 10.0


@dataclass
class Store:
    """A store of a trial: a master, clients, and what was put there.

    Attributes:
        trial: whose services.
        truth: seed and size of what was put first under each key.
    """

    trial: Trial
    truth: dict[str, tuple[str, int]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    @property
    def master(self) -> Service:
        """Return the master."""
        return self.trial.deployment.of_kind("master")[0]

    @property
    def clients(self) -> tuple[Service, Service]:
        """Return the two clients."""
        first, second = self.trial.deployment.of_kind("client")
        return first, second

    def both(self) -> Iterable[tuple[Service, Service]]:
        """Return each client with the other one."""
        first, second = self.clients
        return ((first, second), (second, first))

    def segment(self, client: Service) -> str:
        """Return what the master calls a client's segment."""
        return str(agents.ask(self.trial, client, "describe", {})["segment"])

    # -- what clients do

    def put(self, client: Service, sizes: Mapping[str, int], seed: str = "first", **how: Any) -> list[int]:
        """Have a client put objects.

        Args:
            client: who.
            sizes: bytes of each object, by its key.
            seed: another seed is another content.
            how: replicas, segments, soft_pin, batch (see the agent).

        Returns:
            Mooncake's answers, one for each object (of a batch one).
        """
        objects = []
        for key, size in sizes.items():
            whole = f"{self.trial.deployment.run_id} {seed} {key}"
            self.truth.setdefault(key, (whole, size))
            objects.append({"key": key, "seed": whole, "size": size})
        return list(agents.ask(self.trial, client, "put", {"objects": objects, **how})["codes"])

    def must_put(self, client: Service, sizes: Mapping[str, int], **how: Any) -> None:
        """Have a client put objects, each of which has to be taken.

        Raises:
            CheckFailed: one was not.
        """
        codes = self.put(client, sizes, **how)
        for key, code in zip(sizes, codes, strict=False):
            if code != OK:
                raise CheckFailed(
                    f"{client.name} could not put {key} of {sizes[key]} bytes: Mooncake answered {code}",
                    {"codes": codes, "how": how},
                    hint=f"see {client.log} and {self.master.log}",
                )

    def get(self, client: Service, keys: Iterable[str], way: str = "bytes") -> dict[str, bool]:
        """Have a client get objects. Returns by key whether something came.

        Raises:
            CheckFailed: what came is not what was put.
        """
        wanted = list(keys)
        said = agents.ask(self.trial, client, "get", {"keys": wanted, "way": way})["objects"]
        for key, found in zip(wanted, said, strict=True):
            if found is not None and found != self._expected(key):
                right = self._expected(key)
                raise CheckFailed(
                    f"{client.name} got other bytes than were put under {key} (way {way}): {found['size']} of SHA-256 "
                    f"{found['sha256'][:12]}…, not {right['size']} of {right['sha256'][:12]}…",
                    {"key": key, "found": found, "expected": right, "where": self.where(client, key)},
                    hint="an object that cannot be had has to be missing, never another one",
                )
        return {key: found is not None for key, found in zip(wanted, said, strict=True)}

    def must_get(self, client: Service, keys: Iterable[str], way: str = "bytes", when: str = "") -> None:
        """Have a client get objects that have to be there.

        Raises:
            CheckFailed: one is not, or is another one.
        """
        missing = [key for key, found in self.get(client, keys, way).items() if not found]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise CheckFailed(
                f"{client.name} does not get {missing[0]}{more}{f' {when}' if when else ''} (way {way})",
                {"missing": missing, "listed_by_the_master": sorted(set(missing) & self.listed())},
                hint=f"see {client.log} and {self.master.log}",
            )

    def _expected(self, key: str) -> dict[str, Any]:
        seed, size = self.truth[key]
        if key not in self._digests:
            self._digests[key] = agents.digest(agents.content(seed, size))
        return {"size": size, "sha256": self._digests[key]}

    def exist(self, client: Service, keys: Iterable[str], *, batch: bool = False) -> list[int]:
        """Return what a client says of keys: 1 exists, 0 does not, below 0 an error."""
        return list(agents.ask(self.trial, client, "exist", {"keys": list(keys), "batch": batch})["codes"])

    def remove(self, client: Service, keys: Iterable[str], *, force: bool = False) -> list[int]:
        """Have a client remove objects. Returns Mooncake's answers."""
        return list(agents.ask(self.trial, client, "remove", {"keys": list(keys), "force": force})["codes"])

    def where(self, client: Service, key: str) -> list[dict[str, Any]]:
        """Return an object's replicas as a client has them from the master: endpoint, size, status."""
        return list(agents.ask(self.trial, client, "where", {"keys": [key]})["replicas"][0])

    # -- what the master says

    def _master(self, path: str) -> str:
        done = exercise.get(self.master.url + path, _MASTER_SECONDS)
        if done.status != 200 or done.body is None:
            raise CheckFailed(
                f"the master does not answer {path}: {done.problem or f'HTTP {done.status}'}",
                {"exchange": done.transcript()},
                hint=f"read {self.master.log} on {self.master.node}",
            )
        return done.body

    def listed(self) -> set[str]:
        """Return all keys that the master knows."""
        return set(self._master("/get_all_keys").split())

    def segments(self) -> dict[str, dict[str, Any]]:
        """Return by name the segments that the master knows: te_endpoint, allocator_used_bytes, size_bytes and more."""
        found = json.loads(self._master("/get_segments_detail"))
        return {str(entry["segment_name"]): entry for entry in found["segments"]}

    def replicas(self, key: str) -> list[str]:
        """Return the endpoints at which the master says that replicas of an object lie."""
        found = json.loads(self._master(f"/query_key?key={key}"))
        return sorted(str(entry["transport_endpoint_"]) for entry in found["data"])

    def clear(self) -> Evidence:
        """Remove all that was put, leases or not, so that the next check finds room."""
        keys = sorted(self.listed() & self.truth.keys())
        codes = self.remove(self.clients[0], keys, force=True) if keys else []
        left = sorted(self.listed() & set(keys))
        if left:
            raise CheckFailed(
                f"{len(left)} of {len(keys)} objects are still there after they were removed by force: {left[0]}",
                {"codes": codes, "left": left},
                hint=f"see {self.master.log}",
            )
        return {"removed": len(keys)}
