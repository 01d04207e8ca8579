"""What workers publish of their KV cache, recorded by the verification itself: the ground truth of any index of it.

Wire, as vLLM's `ZmqEventPublisher` has it and Dynamo's workers speak it: PUB frames are topic, 8-byte big-endian
sequence number, and a msgpack array of time, events and rank. A DEALER that sends an empty frame and a sequence number
gets what was published from there on, the end being marked by the number -1. An event is a map with a `type`, or an
array that begins with it: BlockStored (hashes, parent hash, tokens, block size), BlockRemoved (hashes),
AllBlocksCleared.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack
import zmq

from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from pyharness.deployment import Service

STORED, REMOVED, CLEARED = "BlockStored", "BlockRemoved", "AllBlocksCleared"
_END = -1
# Of a worker that has nothing to replay, the end mark comes at once.
_REPLAY_SECONDS = 5.0
# The fields of events that come as arrays, after the type.
_ARRAY_FIELDS = {
    STORED: ("block_hashes", "parent_block_hash", "token_ids", "block_size"),
    REMOVED: ("block_hashes",),
    CLEARED: (),
}


@dataclass(frozen=True)
class Event:
    """One event of a worker. `tokens` are those of all its blocks, one after the other."""

    sequence: int
    kind: str
    hashes: tuple[int, ...] = ()
    parent: int | None = None
    tokens: tuple[int, ...] = ()
    block_size: int = 0


@dataclass
class Blocks:
    """What one worker's cache holds, by its own events.

    Attributes:
        parents: by a block's hash the hash of the block before it; None for a first one.
        tokens: by a block's hash its tokens.
        stored, removed: how many blocks there were events of.
        dropped: tokens from the prompt's first up to the end of each block that was removed.
    """

    parents: dict[int, int | None] = field(default_factory=dict)
    tokens: dict[int, tuple[int, ...]] = field(default_factory=dict)
    stored: int = 0
    removed: int = 0
    dropped: list[tuple[int, ...]] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take an event."""
        if event.kind == CLEARED:
            self.removed += len(self.parents)
            self.parents.clear()
            self.tokens.clear()
        elif event.kind == REMOVED:
            self.removed += len(event.hashes)
            self.dropped += [tuple(chain) for gone in event.hashes if (chain := self.chain(gone))]
            for gone in event.hashes:
                self.parents.pop(gone, None)
                self.tokens.pop(gone, None)
        else:
            parent = event.parent
            for place, block in enumerate(event.hashes):
                self.parents[block] = parent
                self.tokens[block] = event.tokens[place * event.block_size : (place + 1) * event.block_size]
                parent = block
            self.stored += len(event.hashes)

    def chain(self, block: int) -> list[int]:
        """Return the tokens from the prompt's first up to the end of a block; empty where one before it is gone."""
        tokens: list[int] = []
        here: int | None = block
        while here is not None:
            if here not in self.parents:
                return []
            tokens[:0] = self.tokens[here]
            here = self.parents[here]
        return tokens

    def leaves(self) -> list[int]:
        """Return the blocks that no other block follows."""
        followed = set(self.parents.values())
        return [block for block in self.parents if block not in followed]

    def prefix(self, tokens: list[int], block_size: int) -> int:
        """Return how many whole blocks of a prompt it holds, from the beginning on."""
        known = {(parent, self.tokens[block]): block for block, parent in self.parents.items()}
        here: int | None = None
        for count in range(len(tokens) // block_size):
            here = known.get((here, tuple(tokens[count * block_size : (count + 1) * block_size])))
            if here is None:
                return count
        return len(tokens) // block_size


def decode(sequence: int, payload: bytes) -> list[Event]:
    """Read what was published under one sequence number.

    Raises:
        ValueError: it is no batch of events.
    """
    try:
        batch = msgpack.unpackb(payload, strict_map_key=False)
        return [_event(sequence, entry) for entry in batch[1]]
    except (msgpack.UnpackException, ValueError, TypeError, LookupError) as error:
        raise ValueError(f"event {sequence} cannot be read ({error}): {payload[:80]!r}") from error


def _event(sequence: int, entry: Any) -> Event:
    if isinstance(entry, dict):
        kind, fields = entry["type"], entry
    else:
        kind = entry[0]
        fields = dict(zip(_ARRAY_FIELDS[kind], entry[1:], strict=False))
    if kind not in _ARRAY_FIELDS:
        raise ValueError(f"event {sequence} has the unknown type {kind!r}")
    return Event(
        sequence,
        kind,
        tuple(fields.get("block_hashes") or ()),
        fields.get("parent_block_hash"),
        tuple(fields.get("token_ids") or ()),
        int(fields.get("block_size") or 0),
    )


def replayed(service: Service, first: int = 0) -> list[Event]:
    """Ask a worker for all that it has published, from a sequence number on.

    Raises:
        CheckFailed: it does not answer, or what it has is not whole: a number is missing.
    """
    url = service.endpoints["kv_replay"]
    found: list[Event] = []
    expected, deadline = first, time.monotonic() + _REPLAY_SECONDS
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(url)
        dealer.send_multipart([b"", struct.pack(">q", first)])
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not dealer.poll(round(left * 1000)):
                raise _failed(
                    service, f"{url} does not end its replay within {_REPLAY_SECONDS:g} s, after {expected} numbers"
                )
            frames = [frame for frame in dealer.recv_multipart() if frame]
            (number,) = struct.unpack(">q", frames[0])
            if number == _END:
                return found
            if number != expected:
                raise _failed(service, f"{url} replays number {number}, and {expected} comes next")
            expected += 1
            try:
                found += decode(number, frames[1])
            except (ValueError, IndexError) as error:
                raise _failed(service, f"{url}: {error}") from error


def blocks(service: Service) -> Blocks:
    """Return what a worker's cache holds by now, by all that it has published since its start.

    Raises:
        CheckFailed: it does not tell.
    """
    held = Blocks()
    for event in replayed(service):
        held.apply(event)
    return held


def _failed(service: Service, what: str) -> CheckFailed:
    return CheckFailed(
        f"{service.name} on {service.node} does not tell what its cache holds: {what}",
        {"endpoints": service.endpoints},
        hint=f"a worker whose port was taken serves without KV events: see {service.log} on {service.node}",
    )
