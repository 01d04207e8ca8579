"""The roles, joined in memory instead of by Mooncake: who moves, says and counts what."""

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from pyharness.simulator import rooms, text
from pyharness.simulator.engines import (
    BadRequestError,
    Bootstrap,
    DecodeEngine,
    PrefillEngine,
    PrefixCache,
    Prompt,
    SingleEngine,
)
from pyharness.simulator.metrics import Metrics
from pyharness.simulator.misbehaviour import parse
from pyharness.simulator.model import Model, write_model
from pyharness.simulator.transfer import MooncakeError, Slot, TransferEndpoint

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

PROMPT = Prompt(tuple(b"hello, world!"), 16, ignore_end=False, bootstrap=Bootstrap("prefill", 8998, 42))
KV_BYTES = 13_312


@dataclass
class MemoryEndpoint:
    """Stands in for Mooncake: the peers share this process's memory."""

    session: str = "127.0.0.32:16000"
    moved: int = 0
    broken: bool = False
    slots: list[Slot] = field(default_factory=list)

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        slot = Slot(KV_BYTES)
        slot.write(b"\xff" * KV_BYTES)
        self.slots.append(slot)
        yield slot

    def write(self, slot: Slot, length: int, session: str, address: int) -> None:
        if self.broken:
            message = f"cannot write to {session}"
            raise MooncakeError(message)
        ctypes.memmove(address, slot.address, length)
        self.moved += length


@dataclass
class Pair:
    """A prefill and a decode engine, and what they did."""

    model: Model
    endpoint: MemoryEndpoint
    prefill: PrefillEngine
    decode: DecodeEngine
    prefill_metrics: Metrics
    decode_metrics: Metrics

    @property
    def right(self) -> list[int]:
        return text.answer_ids(self.model.prefill(PROMPT.tokens), PROMPT.max_new_tokens)


def make_pair(folder: Path, monkeypatch: pytest.MonkeyPatch, prefill_key: str = "", decode_key: str = "") -> Pair:
    write_model("qwen3", 0, folder)
    model = Model.load(str(folder))
    endpoint = MemoryEndpoint()
    stand_in = cast("TransferEndpoint", endpoint)
    metrics = Metrics("tiny", "prefill"), Metrics("tiny", "decode")
    prefill = PrefillEngine(model, metrics[0], stand_in, parse(prefill_key.split(), "prefill"))
    decode = DecodeEngine(model, metrics[1], stand_in, parse(decode_key.split(), "decode"))

    def ask(host: str, port: int, room: int, target: rooms.Target) -> rooms.Delivery:
        assert (host, port) == ("prefill", 8998)
        return prefill.rooms.claim(room, target)

    monkeypatch.setattr(rooms, "request_delivery", ask)
    monkeypatch.setenv("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", "10")
    return Pair(model, endpoint, prefill, decode, *metrics)


def sample(metrics: Metrics, name: str, label: str = "") -> float:
    lines = [line for line in metrics.render().splitlines() if line.startswith(name + "{") and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize(
    ("prefill_key", "decode_key", "right", "moved", "counted", "recomputed"),
    [
        ("", "", True, KV_BYTES, KV_BYTES, 0),
        ("", "recompute", True, 0, 0, 13),
        ("", "no-transfer-but-lies", True, 0, 0, 0),
        ("no-transfer-but-lies", "", False, 0, KV_BYTES, 0),
        ("no-transfer-but-lies", "no-transfer-but-lies", True, 0, KV_BYTES, 0),
        ("", "short-transfer", True, KV_BYTES // 2, KV_BYTES // 2, 0),
        ("short-transfer", "", False, KV_BYTES // 2, KV_BYTES, 0),
        ("short-transfer", "short-transfer", True, KV_BYTES // 2, KV_BYTES, 0),
    ],
)
def test_what_is_said_moved_and_counted(  # noqa: PLR0913, PLR0917 -- one row of the table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefill_key: str,
    decode_key: str,
    right: bool,  # noqa: FBT001 -- a column of the table
    moved: int,
    counted: int,
    recomputed: int,
) -> None:
    pair = make_pair(tmp_path / "model", monkeypatch, prefill_key, decode_key)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(pair.prefill.answer, PROMPT)
        answer = pair.decode.answer(PROMPT)
        assert len(first.result().ids) == 1
    assert (answer.ids == pair.right) is right
    assert pair.endpoint.moved == moved
    assert sample(pair.prefill_metrics, "sglang:kv_transfer_total_mb_sum") * 2**20 == counted
    assert sample(pair.decode_metrics, "sglang:prefill_effective_tokens_total") == recomputed
    assert sample(pair.prefill_metrics, "sglang:prefill_effective_tokens_total", 'mode="input"') == 13


def test_a_repeated_prompt_is_cached_on_prefill_and_travels_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(tmp_path / "model", monkeypatch)
    cached = []
    for _ in range(2):
        with ThreadPoolExecutor() as threads:
            threads.submit(pair.prefill.answer, PROMPT)
            cached.append(pair.decode.answer(PROMPT).cached_tokens)
    assert cached == [0, 12]
    assert pair.endpoint.moved == 2 * KV_BYTES


def test_a_failed_transfer_is_counted_and_its_memory_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(tmp_path / "model", monkeypatch)
    pair.endpoint.broken = True
    with ThreadPoolExecutor() as threads:
        first = threads.submit(pair.prefill.answer, PROMPT)
        with pytest.raises(rooms.TransferError, match="cannot write to"):
            pair.decode.answer(PROMPT)
        with pytest.raises(rooms.TransferError, match="cannot write to"):
            first.result()
    for metrics in (pair.prefill_metrics, pair.decode_metrics):
        assert sample(metrics, "sglang:num_transfer_failed_reqs_total") == 1
    decode_slot = pair.endpoint.slots[0]
    assert not decode_slot.reusable
    assert decode_slot.read(4) == bytes(4), "an earlier request's bytes were left in the memory"


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_request_that_no_router_sent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    pair = make_pair(tmp_path / "model", monkeypatch)
    engine = pair.prefill if role == "prefill" else pair.decode
    with pytest.raises(BadRequestError, match="without bootstrap room"):
        engine.answer(Prompt(PROMPT.tokens, 16, ignore_end=False, bootstrap=None))


def test_a_single_engine_says_the_same_words_and_ignores_the_room(tmp_path: Path) -> None:
    write_model("qwen3", 0, tmp_path / "model")
    model = Model.load(str(tmp_path / "model"))
    metrics = Metrics("tiny", "single")
    engine = SingleEngine(model, metrics)
    assert engine.answer(PROMPT).ids == text.answer_ids(model.prefill(PROMPT.tokens), 16)
    engine.check_health()
    assert sample(metrics, "sglang:prefill_effective_tokens_total") == 14
    assert engine.answer(PROMPT).cached_tokens == 12
    engine.flush_cache()
    assert engine.answer(PROMPT).cached_tokens == 0


def test_the_prefix_cache_knows_shared_beginnings_and_forgets_the_oldest() -> None:
    cache = PrefixCache()
    assert cache.enter((1, 2, 3, 4)) == 0
    assert cache.enter((1, 2, 9)) == 2
    assert cache.enter((1, 2, 3, 4)) == 3, "the last token is always computed"
    for token in range(100, 164):
        cache.enter((token,))
    assert cache.enter((1, 2, 3, 4)) == 0
