"""Did decode take the prompt from prefill, by the tokens that vLLM counts: one wrong thing at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness import exercise
from pyharness.engines.base import Counters
from pyharness.engines.vllm import VLLM
from pyharness.verification import tokens, transfer
from pyharness.verification.base import CheckFailed
from pyharness.verification.wires import Snapshot
from tests.unit.builders import BYTES_PER_TOKEN, FakeNodes, make_deployment, make_service, make_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.vllm]

PROMPT = 28
SILENT: dict[str, dict[str, Any]] = {
    "one": {"services": {"prefill": {"connections": []}}, "rdma": []},
    "two": {"services": {"decode": {"connections": []}}, "rdma": []},
}


def counted(computed: int | None, external: int | None) -> Counters:
    return Counters(None, None, None, computed, page_size=32, external_tokens=external)


def seen(prefill: Counters, decode: Counters) -> Snapshot:
    return Snapshot({"prefill": prefill, "decode": decode}, SILENT)


# What the one-token request before left behind.
BEFORE = seen(counted(17, 0), counted(0, 17))


def moved(prefill: Counters, decode: Counters, prompt: int | None = PROMPT) -> dict[str, Any]:
    return tokens.kv_cache_moved(make_trial(FakeNodes(SILENT)), BEFORE, seen(prefill, decode), prompt)


def refused(prefill: Counters, decode: Counters, prompt: int | None = PROMPT) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        moved(prefill, decode, prompt)
    return caught.value


def test_all_of_the_prompt_from_prefill_is_right() -> None:
    evidence = moved(counted(45, 0), counted(0, 45))
    assert evidence["counters"] == {
        "prefill": {"computed_tokens": PROMPT, "external_tokens": 0},
        "decode": {"computed_tokens": 0, "external_tokens": PROMPT},
    }
    assert evidence["tcp_bytes"] == 0


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (counted(28, 17), "computed 28 of the prompt's 28 tokens itself and took 0 from prefill"),
        (counted(1, 44), "computed 1 of the prompt's 28 tokens itself and took 27 from prefill"),
        (counted(0, 44), "computed 0 of the prompt's 28 tokens itself and took 27 from prefill"),
        (counted(0, 73), "computed 0 of the prompt's 28 tokens itself and took 56 from prefill"),
    ],
)
def test_less_or_more_than_the_prompt_is_wrong(decode: Counters, said: str) -> None:
    failure = refused(counted(45, 0), decode)
    assert f"decode (decode on two) {said}" in str(failure)
    assert failure.class_ == "product"
    assert failure.evidence["prompt_tokens"] == PROMPT


@pytest.mark.parametrize("computed", [17, 44, 73])
def test_a_prefill_that_computed_something_else_is_wrong(computed: int) -> None:
    failure = refused(counted(computed, 0), counted(0, 45))
    assert f"prefill (prefill on one) computed {computed - 17} of the prompt's 28 tokens" in str(failure)


@pytest.mark.parametrize(
    ("prefill", "decode", "who"),
    [
        (counted(None, 0), counted(0, 45), "prefill does not say"),
        (counted(45, 0), counted(0, None), "decode does not say"),
        (counted(None, None), counted(None, None), "prefill and decode does not say"),
    ],
)
def test_a_server_that_does_not_say_is_wrong(prefill: Counters, decode: Counters, who: str) -> None:
    assert str(refused(prefill, decode)).startswith(who)


def test_without_the_prompts_length_nothing_can_be_judged() -> None:
    assert refused(counted(45, 0), counted(0, 45), None).class_ == "test"


# ---------------------------------------------------------------- when the counters are read, and what has to cross


def metrics(computed: int, external: int) -> str:
    name = "vllm:prompt_tokens_by_source_total"
    return f'{name}{{source="local_compute"}} {computed}\n{name}{{source="external_kv_transfer"}} {external}\n'


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have /metrics give these one after the other, to prefill and decode in turn."""
    given: list[str] = []

    def texts() -> Iterator[str]:
        while True:
            yield given.pop(0)

    source = texts()

    def get(url: str, _timeout: float) -> exercise.Exchange:
        return exercise.Exchange("GET", url, None, 200, {}, next(source), None, 0.01)

    monkeypatch.setattr(exercise, "get", get)
    monkeypatch.setattr(transfer, "_POLL_SECONDS", 0.0)
    return given


def test_the_first_request_is_waited_for_before_the_counters_are_read(readings: list[str]) -> None:
    readings += [metrics(0, 0), metrics(0, 0), metrics(17, 0), metrics(0, 17)]
    found = transfer.snapshot(make_trial(FakeNodes(SILENT), engine=VLLM()))
    assert found.counters["decode"].external_tokens == 17
    assert not readings


def test_the_request_under_test_is_waited_for(readings: list[str]) -> None:
    readings += [metrics(17, 0), metrics(0, 17), metrics(45, 0), metrics(0, 17), metrics(45, 0), metrics(0, 45)]
    found = transfer.snapshot_after(make_trial(FakeNodes(SILENT), engine=VLLM()), BEFORE, PROMPT)
    assert found.counters["decode"].external_tokens == 45
    assert not readings


def test_whole_blocks_have_to_cross() -> None:
    _used, evidence = transfer.transport_used(make_trial(FakeNodes(SILENT)), BEFORE, BEFORE, PROMPT)
    assert evidence[-1] == {"witness": "needed", "bytes": 32 * BYTES_PER_TOKEN}


def test_ranks_are_read_from_vllms_arguments_too() -> None:
    services = [
        make_service("prefill", command=["python3", "--tensor-parallel-size", "2"]).model_dump(),
        make_service("decode", command=["python3", "--tensor-parallel-size", "4"]).model_dump(),
    ]
    trial = make_trial(FakeNodes(SILENT), make_deployment(services=services))
    _used, evidence = transfer.transport_used(trial, BEFORE, BEFORE, PROMPT)
    # The one KV head of the model lies on each of decode's four ranks.
    assert evidence[-1]["bytes"] == 4 * 32 * BYTES_PER_TOKEN
