"""The three roles: how each turns a prompt into an answer, and what it counts on the way."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Protocol

from pyharness.simulator import rooms, text
from pyharness.simulator.metrics import Metrics
from pyharness.simulator.misbehaviour import Misbehaving
from pyharness.simulator.model import Model
from pyharness.simulator.transfer import MooncakeError, TransferEndpoint

_CACHED_PROMPTS: Final = 64


class BadRequestError(Exception):
    """The client asked for something that this engine cannot do."""


@dataclass(frozen=True)
class Bootstrap:
    """The meeting point that the router adds to a request.

    Attributes:
        host: Prefill's address.
        port: Prefill's bootstrap port.
        room: The number of the request.
    """

    host: str
    port: int
    room: int


@dataclass(frozen=True)
class Prompt:
    """What an engine is asked to continue.

    Attributes:
        tokens: The prompt.
        max_new_tokens: Most tokens of the answer.
        ignore_end: Whether to go on to `max_new_tokens` in any case.
        bootstrap: Where prefill and decode meet; None when no router is in front.
    """

    tokens: tuple[int, ...]
    max_new_tokens: int
    ignore_end: bool
    bootstrap: Bootstrap | None


@dataclass(frozen=True)
class Answer:
    """What an engine says.

    Attributes:
        ids: The words.
        cached_tokens: Prompt tokens that came from prefill's prefix cache.
        note: One phrase for the log.
    """

    ids: list[int]
    cached_tokens: int
    note: str


class PrefixCache:
    """Which prompts were computed before. Only counts: a cached prompt's KV cache is computed again."""

    def __init__(self) -> None:
        """Begin with no prompt."""
        self._prompts: OrderedDict[tuple[int, ...], None] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, prompt: tuple[int, ...]) -> int:
        """Remember a prompt; return how many of its leading tokens were known (never the last one)."""
        with self._lock:
            known = max((_shared_prefix(prompt, other) for other in self._prompts), default=0)
            self._prompts[prompt] = None
            self._prompts.move_to_end(prompt)
            if len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return min(known, len(prompt) - 1)

    def flush(self) -> None:
        """Forget every prompt."""
        with self._lock:
            self._prompts.clear()


def _shared_prefix(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class Engine(Protocol):
    """What the HTTP server needs of a role."""

    def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt.

        Raises:
            BadRequestError: The request lacks what the role needs.
            TransferError: The KV cache did not get across.
        """

    def check_health(self) -> None:
        """Run the one-token request that SGLang runs for each ``/health``."""

    def flush_cache(self) -> None:
        """Empty the prefix cache."""


class SingleEngine:
    """One engine that does everything; it ignores what a router adds for disaggregation."""

    def __init__(self, model: Model, metrics: Metrics) -> None:
        """Begin with an empty prefix cache.

        Args:
            model: The model.
            metrics: Where to count.
        """
        self._model = model
        self._metrics = metrics
        self._cache = PrefixCache()

    def compute(self, prompt: Prompt) -> tuple[bytes, int]:
        """Compute a prompt's KV cache; return it and the number of tokens that were cached."""
        cached = self._cache.enter(prompt.tokens)
        self._metrics.computed(tokens=len(prompt.tokens) - cached, cached=cached)
        return self._model.prefill(prompt.tokens), cached

    def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt from a KV cache of its own."""
        kv_cache, cached = self.compute(prompt)
        ids = text.answer_ids(kv_cache, prompt.max_new_tokens, ignore_end=prompt.ignore_end)
        return Answer(ids, cached, "computed alone")

    def check_health(self) -> None:
        """Count the token: SGLang's health probe is visible in ``prefill_effective_tokens_total``, too."""
        self._metrics.computed(tokens=1)

    def flush_cache(self) -> None:
        """Empty the prefix cache."""
        self._cache.flush()


class PrefillEngine(SingleEngine):
    """Computes prompts and sends their KV caches to decode."""

    def __init__(self, model: Model, metrics: Metrics, endpoint: TransferEndpoint, misbehaving: Misbehaving) -> None:
        """Begin with no offered prompt.

        Args:
            model: The model.
            metrics: Where to count.
            endpoint: Its end of the transfer.
            misbehaving: What to do wrong.
        """
        super().__init__(model, metrics)
        self._endpoint = endpoint
        self._misbehaving = misbehaving
        self.rooms: Final = rooms.Rooms()

    def answer(self, prompt: Prompt) -> Answer:
        """Compute, hand over, and answer with the first token, as SGLang's prefill does."""
        room = _bootstrap(prompt).room
        kv_cache, cached = self.compute(prompt)
        notes: list[str] = []
        try:
            self.rooms.offer(room, self._deliverer(kv_cache, cached, notes.append))
        except rooms.TransferError:
            self._metrics.transfer_failed()
            raise
        return Answer(text.answer_ids(kv_cache, min(1, prompt.max_new_tokens)), cached, notes[0])

    def _deliverer(
        self, kv_cache: bytes, cached: int, note: Callable[[str], None]
    ) -> Callable[[rooms.Target], rooms.Delivery]:
        def deliver(target: rooms.Target) -> rooms.Delivery:
            claimed = moved = min(target.length, len(kv_cache))
            if "no-transfer-but-lies" in self._misbehaving:
                claimed, moved = len(kv_cache), 0
            elif "short-transfer" in self._misbehaving:
                claimed, moved = len(kv_cache), len(kv_cache) // 2
            start = time.perf_counter()
            with self._endpoint.slot() as slot:
                slot.write(kv_cache)
                try:
                    self._endpoint.write(slot, moved, target.session, target.address)
                except MooncakeError as error:
                    raise rooms.TransferError(str(error)) from error
            seconds = time.perf_counter() - start
            if claimed:
                self._metrics.transferred(claimed, seconds)
            note(f"{moved} KV bytes written to {target.session} in {seconds * 1000:.1f} ms")
            return rooms.Delivery(claimed, cached)

        return deliver


class DecodeEngine:
    """Fetches KV caches from prefill and answers from them."""

    def __init__(self, model: Model, metrics: Metrics, endpoint: TransferEndpoint, misbehaving: Misbehaving) -> None:
        """Set the engine up.

        Args:
            model: The model.
            metrics: Where to count.
            endpoint: Its end of the transfer.
            misbehaving: What to do wrong.
        """
        self._model = model
        self._metrics = metrics
        self._endpoint = endpoint
        self._misbehaving = misbehaving

    def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt from the KV cache that prefill sent."""
        bootstrap = _bootstrap(prompt)
        kv_cache, cached, note = self._fetch(prompt, bootstrap)
        if "recompute" in self._misbehaving:
            self._metrics.computed(tokens=len(prompt.tokens))
        return Answer(text.answer_ids(kv_cache, prompt.max_new_tokens, ignore_end=prompt.ignore_end), cached, note)

    def check_health(self) -> None:
        """Count nothing: SGLang's decode prefills no token for its health probe."""

    def flush_cache(self) -> None:
        """Do nothing: decode has no prefix cache."""

    def _fetch(self, prompt: Prompt, bootstrap: Bootstrap) -> tuple[bytes, int, str]:
        full = self._model.kv_bytes(len(prompt.tokens))
        wanted = full
        if "recompute" in self._misbehaving or "no-transfer-but-lies" in self._misbehaving:
            # Asking for nothing still releases prefill, for which the router waits.
            wanted = 0
        elif "short-transfer" in self._misbehaving:
            wanted = full // 2
        with self._endpoint.slot() as slot:
            # Bytes that never come must not be mistaken for those of an earlier request.
            slot.clear(full)
            target = rooms.Target(self._endpoint.session, slot.address, wanted)
            try:
                delivery = rooms.request_delivery(bootstrap.host, bootstrap.port, bootstrap.room, target)
            except rooms.TransferError:
                # Prefill may yet write: never lend this memory to another request.
                slot.reusable = False
                self._metrics.transfer_failed()
                raise
            kv_cache = slot.read(full)
        note = f"{delivery.byte_count} KV bytes from {bootstrap.host}:{bootstrap.port} as prefill says"
        if wanted < full:
            return self._model.prefill(prompt.tokens), delivery.cached_tokens, note
        return kv_cache, delivery.cached_tokens, note


def _bootstrap(prompt: Prompt) -> Bootstrap:
    if prompt.bootstrap is None:
        message = "Invalid request: Disaggregated request received without bootstrap room id."
        raise BadRequestError(message)
    return prompt.bootstrap
