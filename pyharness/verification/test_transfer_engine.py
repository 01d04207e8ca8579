"""Verification of test_transfer_engine: what an agent writes into another's memory, or reads there, arrives as it was.

No time is judged. Throughput and latency stand in the evidence.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness.verification import agents, links, services, wheel
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.links import Moved

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "written_bytes_right",
    "read_bytes_right",
    "transport_used",
    "strangers_refused",
)

# Around a target lies memory that must not change; of a whole page the bytes next to it are looked at.
_PAGE = 4096
_MARGIN = 64
_TRANSFER_SECONDS = 120.0


@dataclass(frozen=True)
class End:
    """An agent and its memory: a source at its begin, a target behind it, a page before, between and after them.

    Attributes:
        agent: the service.
        session: how a peer calls it.
        base: address of its memory.
        room: bytes that source and target have each.
    """

    agent: Service
    session: str
    base: int
    room: int

    @property
    def source(self) -> int:
        """Offset of what is sent."""
        return _PAGE

    @property
    def target(self) -> int:
        """Offset of where something is received."""
        return 2 * _PAGE + self.room


@dataclass(frozen=True)
class Load:
    """Transfers of one size, one after the other.

    Attributes:
        direction: write or read, as the one sees it that calls Mooncake.
        caller: who calls Mooncake.
        peer: the other one.
        size: bytes of one transfer.
        count: how many.
        seed: what their content follows from.
    """

    direction: str
    caller: End
    peer: End
    size: int
    count: int
    seed: str

    @property
    def giver(self) -> End:
        """Return the one whose memory the bytes come from."""
        return self.caller if self.direction == "write" else self.peer

    @property
    def taker(self) -> End:
        """Return the one whose memory they go to. It did not send them, so it is the one to say what came."""
        return self.peer if self.direction == "write" else self.caller

    def __str__(self) -> str:
        """Return it as a person reads it."""
        way = "to" if self.direction == "write" else "from"
        return f"{self.direction} of {self.size} bytes by {self.caller.agent.name} {way} {self.peer.agent.name}"


def verify(trial: Trial) -> bool:
    """Check what runs, before anything is transferred."""
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial, kinds=()))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial, kinds=("agent",)))
    if not ours:
        trial.skip(CHECKS[2:], "the agents that answer are not the ones that were deployed")
    return ours


def exercise(trial: Trial) -> None:
    """Transfer, and check what came of it."""
    first, second = trial.deployment.of_kind("agent")
    moves: list[Moved] = []
    before = links.look(trial, (first, second))
    for check, direction in (("written_bytes_right", "write"), ("read_bytes_right", "read")):
        trial.recorder.run(check, lambda direction=direction: bytes_right(trial, direction, moves))  # type: ignore[misc]
    after = links.look(trial, (first, second))
    totals = [
        Moved(source, target, sum(move.size for move in moves if move.source == source))
        for source, target in ((first, second), (second, first))
    ]
    used, evidence = links.transport_of(trial, totals, before, after)
    trial.note_transport(used, evidence)
    requested = trial.deployment.transport.requested
    trial.recorder.run("transport_used", lambda: links.as_asked(used, evidence, requested))
    trial.recorder.run("strangers_refused", lambda: strangers_refused(trial))


def ends(trial: Trial) -> tuple[End, End]:
    """Ask both agents who they are to each other."""

    def end(agent: Service) -> End:
        said = agents.ask(trial, agent, "describe", {})
        return End(agent, said["session"], said["base"], (said["capacity"] - 3 * _PAGE) // 2)

    first, second = trial.deployment.of_kind("agent")
    return end(first), end(second)


def loads(trial: Trial, direction: str, pair: tuple[End, End]) -> list[Load]:
    """Return all transfers of one direction, called for by each end in turn."""
    room, most = trial.workload["bytes_per_size"], trial.workload["most_transfers"]
    return [
        # In the seed: nothing is ever sent twice, not by a later run either.
        Load(
            direction,
            caller,
            peer,
            size,
            max(1, min(most, room // size)),
            f"{trial.deployment.run_id} {direction} {caller.agent.name} {size}",
        )
        for caller, peer in (pair, pair[::-1])
        for size in trial.workload["sizes"]
    ]


def bytes_right(trial: Trial, direction: str, moves: list[Moved]) -> Evidence:
    """Check that every transfer of one direction brings all its bytes, and touches nothing beside them.

    Args:
        trial: whose agents.
        direction: write or read.
        moves: takes what was told to have moved.
    """
    pair = ends(trial)
    evidence: Evidence = {"transfers": []}
    for load in loads(trial, direction, pair):
        evidence["transfers"].append(_carry(trial, load, moves))
    return evidence


def _carry(trial: Trial, load: Load, moves: list[Moved]) -> Evidence:
    giver, taker, length = load.giver, load.taker, load.size * load.count
    margins = [[taker.target - _MARGIN, _MARGIN], [taker.target + length, _MARGIN]]
    with ThreadPoolExecutor(1) as pool:  # what has to come is found out meanwhile
        expected = pool.submit(_digests, load)
        fill = {"offset": giver.source, "size": length, "seed": load.seed}
        agents.ask(trial, giver.agent, "fill", fill)
        around = agents.ask(trial, taker.agent, "hash", {"ranges": margins})["sha256"]
        done = _transfer(trial, load)
        moves.append(Moved(giver.agent, taker.agent, length))
        pieces = [[taker.target + index * load.size, load.size] for index in range(load.count)]
        found = agents.ask(trial, taker.agent, "hash", {"ranges": pieces + margins})["sha256"]
        wanted = expected.result()
    told = {"by": load.caller.agent.name, "size": load.size, "transfers": load.count, **_timing(load, done)}
    wrong = [index for index in range(load.count) if found[index] != wanted[index]]
    if wrong:
        raise CheckFailed(
            f"{load}: {len(wrong)} of {load.count} arrived with other bytes, the first of them is transfer "
            f"{wrong[0] + 1}: {taker.agent.name} has SHA-256 {found[wrong[0]][:12]}…, not {wanted[wrong[0]][:12]}…",
            {**told, "seed": load.seed, "found": found[wrong[0]], "expected": wanted[wrong[0]]},
            hint="Mooncake said that the transfer went well: see both agents' logs",
        )
    if found[load.count :] != around:
        raise CheckFailed(
            f"{load}: memory of {taker.agent.name} beside the target has changed",
            {**told, "before": around, "after": found[load.count :]},
            hint="something wrote where nothing was to be written",
        )
    return told


def _digests(load: Load) -> list[str]:
    whole = memoryview(agents.content(load.seed, load.size * load.count))
    return [agents.digest(whole[index * load.size : (index + 1) * load.size]) for index in range(load.count)]


def _transfer(trial: Trial, load: Load) -> list[float]:
    """Have the caller transfer. Returns the seconds of each call."""
    outgoing = load.direction == "write"
    asked = {
        "direction": load.direction,
        "peer": load.peer.session,
        "local": load.caller.source if outgoing else load.caller.target,
        "remote": load.peer.base + (load.peer.target if outgoing else load.peer.source),
        "size": load.size,
        "count": load.count,
    }
    said = agents.ask(trial, load.caller.agent, "transfer", asked, _TRANSFER_SECONDS)
    if said["code"] != 0:
        raise CheckFailed(
            f"{load}: Mooncake answered {said['code']} to transfer {len(said['seconds'])} of {load.count}",
            {"asked": asked, "answer": said},
            hint=f"see {load.caller.agent.log} on {load.caller.agent.node}",
        )
    return [float(seconds) for seconds in said["seconds"]]


def percentile(values: list[float], percent: float) -> float:
    """Return the value that `percent` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _timing(load: Load, seconds: list[float]) -> Evidence:
    """Tell how long calls took. The first is told by itself: it may connect the two."""
    spent = sum(seconds)
    latency: dict[str, Any] = {f"p{percent}": round(1000 * percentile(seconds, percent), 3) for percent in (50, 90, 99)}
    return {
        "bytes_per_second": round(load.size * load.count / spent) if spent else None,
        "latency_ms": latency,
        "first_ms": round(1000 * seconds[0], 3) if seconds else None,
    }


def strangers_refused(trial: Trial) -> Evidence:
    """Check that memory which a peer has not registered cannot be written, and that the next right transfer goes on."""
    pair = ends(trial)
    evidence: Evidence = {}
    for caller, peer in (pair, pair[::-1]):
        capacity = 3 * _PAGE + 2 * peer.room
        last = {"ranges": [[capacity - _PAGE // 2, _PAGE // 2]]}
        before = agents.ask(trial, peer.agent, "hash", last)["sha256"]
        asked = {
            "direction": "write",
            "peer": peer.session,
            "local": caller.source,
            "remote": peer.base + capacity - _PAGE // 2,
            "size": _PAGE,
            "count": 1,
        }
        said = agents.ask(trial, caller.agent, "transfer", asked, _TRANSFER_SECONDS)
        after = agents.ask(trial, peer.agent, "hash", last)["sha256"]
        found = {"answer": said["code"], "memory_changed": before != after}
        if said["code"] == 0 or before != after:
            raise CheckFailed(
                f"write of {_PAGE} bytes by {caller.agent.name} to {peer.agent.name}, half of it behind the memory "
                f"that was registered: Mooncake answered {said['code']}, and the memory "
                f"{'has changed' if before != after else 'is as it was'}",
                found,
                hint="Mooncake has to refuse addresses that the peer did not register",
            )
        load = Load("write", caller, peer, _PAGE, 1, f"{trial.deployment.run_id} after refusal {caller.agent.name}")
        evidence[caller.agent.name] = {**found, "then": _carry(trial, load, [])}
    return evidence
