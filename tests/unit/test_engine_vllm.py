"""vLLM's answers, models and metrics."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness import engines
from pyharness.engines.base import Answer, Counters
from pyharness.engines.vllm import VLLM

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.vllm]

# As vllm 0.32.0 writes them, of a server with two engines (data parallelism).
METRICS = """\
# HELP vllm:prompt_tokens_by_source_total Number of prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 45.0
vllm:prompt_tokens_by_source_total{engine="1",model_name="m",source="local_compute"} 2.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 100.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 28.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 175.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",engine="0"} 1.0
"""


def test_tokens_are_told_apart_by_where_they_came_from() -> None:
    assert VLLM().counters(METRICS) == Counters(
        transferred_bytes=None,
        transfers=None,
        failed_transfers=None,
        computed_tokens=47,
        page_size=32,
        external_tokens=28,
    )


@pytest.mark.parametrize("metrics", ["", "# nothing yet\n", 'vllm:prompt_tokens_total{engine="0"} 5.0\n'])
def test_a_server_that_says_nothing_is_not_read_as_zero(metrics: str) -> None:
    assert VLLM().counters(metrics) == Counters(None, None, None, None)


@pytest.mark.parametrize("size", ["None", "", "-1"])
def test_a_block_size_that_is_none_is_unknown(size: str) -> None:
    assert VLLM().counters(f'vllm:cache_config_info{{block_size="{size}"}} 1.0\n').page_size is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "abc"])
def test_what_are_no_counters_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        VLLM().counters(f'vllm:prompt_tokens_by_source_total{{source="local_compute"}} {value}\n')


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 28}}, Answer("hi", 28)),
        ({"choices": [{"text": "hi"}], "usage": {"prompt_tokens": 3}}, Answer("hi", 3)),
        ({"choices": [{"text": ""}]}, Answer("", None)),
        ({"choices": [{"text": "hi"}], "usage": [1], "error": None}, Answer("hi", None)),
        ({"choices": [{"text": "hi"}], "usage": {"prompt_tokens": "3"}}, Answer("hi", None)),
    ],
)
def test_an_answer_is_read(document: Any, answer: Answer) -> None:
    assert VLLM().answer(document) == answer


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"error": {"message": "boom"}}, "holds an error object: .*boom"),
        ({"error": {"message": "boom"}, "choices": [{"text": "and a text"}]}, "holds an error object"),
        ({"choices": [{"message": {"content": None, "reasoning": "hm"}}]}, "has no text"),
        ({"choices": [{"message": None}]}, "has no text"),
        ({"choices": []}, "has no text"),
        ({"choices": 1}, "has no text"),
        ({}, "has no text"),
        ([1], "no JSON object but"),
        (None, "no JSON object but None"),
    ],
)
def test_what_is_no_answer_is_refused(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VLLM().answer(document)


def test_the_served_models_are_read() -> None:
    assert VLLM().served_models({"data": [{"id": "a"}, {"id": "b"}]}) == ["a", "b"]


@pytest.mark.parametrize("document", [None, [], {}, {"data": None}, {"data": [{}]}, {"data": "ab"}, "text"])
def test_what_names_no_models_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="/v1/models gave"):
        VLLM().served_models(document)


def test_the_first_request_is_for_one_token_of_another_prompt() -> None:
    chat: dict[str, Any] = {
        "messages": [{"role": "user", "content": "What is …?"}],
        "max_tokens": 128,
        "temperature": 0,
    }
    assert VLLM().one_token(chat) == {
        "messages": [{"role": "user", "content": "Ready?"}],
        "max_tokens": 1,
        "temperature": 0,
    }
    assert VLLM().one_token({"prompt": "Once"}) == {"prompt": "Ready?", "max_tokens": 1}


def test_the_engine_is_found_by_name() -> None:
    assert isinstance(engines.engine("vllm"), VLLM)
