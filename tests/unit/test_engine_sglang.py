"""SGLang's answers, models and metrics."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness import engines
from pyharness.engines.base import Answer, Counters
from pyharness.engines.sglang import SGLang
from pyharness.errors import UsageError

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.sglang]

# As sglang 0.5.23 writes them, with two ranks.
METRICS = """\
# HELP sglang:kv_transfer_total_mb Histogram of the KV cache moved per request.
# TYPE sglang:kv_transfer_total_mb histogram
sglang:kv_transfer_total_mb_bucket{le="1.0",model_name="m",tp_rank="0"} 1.0
sglang:kv_transfer_total_mb_bucket{le="+Inf",model_name="m",tp_rank="0"} 2.0
sglang:kv_transfer_total_mb_count{model_name="m",tp_rank="0"} 2.0
sglang:kv_transfer_total_mb_sum{model_name="m",tp_rank="0"} 0.0078125
sglang:kv_transfer_total_mb_bucket{le="+Inf",model_name="m",tp_rank="1"} 1.0
sglang:kv_transfer_total_mb_count{model_name="m",tp_rank="1"} 1.0
sglang:kv_transfer_total_mb_sum{model_name="m",tp_rank="1"} 0.00390625
# TYPE sglang:num_transfer_failed_reqs counter
sglang:num_transfer_failed_reqs_total{model_name="m",tp_rank="0"} 3.0
# TYPE sglang:prefill_effective_tokens counter
sglang:prefill_effective_tokens_total{mode="input",model_name="m, with \\"quotes\\"",tp_rank="0"} 13.0
sglang:prefill_effective_tokens_total{mode="cached",model_name="m",tp_rank="0"} 100.0
sglang:prefill_effective_tokens_total{mode="input",model_name="m",tp_rank="1"} 2.0
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="m"} NaN
"""


def test_counters_are_summed_over_ranks_and_only_computed_tokens_count() -> None:
    counters = SGLang().counters(METRICS)
    assert counters == Counters(
        transferred_bytes=12288, transfers=3, failed_transfers=3, computed_tokens=15, requests=0
    )


def test_a_counter_that_was_never_raised_is_zero() -> None:
    assert SGLang().counters('sglang:token_usage{model_name="m"} 0.5\n') == Counters(0, 0, 0, 0, requests=0)


@pytest.mark.parametrize("metrics", ["", "# nothing yet\n", "python_info 1\n"])
def test_a_server_that_says_nothing_is_not_read_as_zero(metrics: str) -> None:
    assert SGLang().counters(metrics) == Counters(None, None, None, None)


@pytest.mark.parametrize(
    "metrics",
    [
        "<html>not found</html>",
        'sglang:x{a="b} 1',
        "sglang:x abc",
        "sglang:kv_transfer_total_mb_sum NaN",
        "sglang:kv_transfer_total_mb_sum +Inf",
    ],
)
def test_what_are_no_metrics_is_refused(metrics: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        SGLang().counters(metrics)


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"text": "hi", "meta_info": {"prompt_tokens": 13}}, Answer("hi", 13)),
        ({"text": "", "meta_info": {}}, Answer("", None)),
        ({"text": "hi"}, Answer("hi", None)),
        ({"text": "hi", "meta_info": [1]}, Answer("hi", None)),
        ({"text": "hi", "meta_info": {"prompt_tokens": "13"}}, Answer("hi", None)),
    ],
)
def test_an_answer_is_read(document: Any, answer: Answer) -> None:
    assert SGLang().answer(document) == answer


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"error": {"message": "boom"}}, "holds an error object: .*boom"),
        ({"error": {"message": "boom"}, "text": "and a text"}, "holds an error object"),
        ({"text": 1}, "has no text"),
        ({}, "has no text"),
        ([1], "no JSON object but"),
        (None, "no JSON object but None"),
    ],
)
def test_what_is_no_answer_is_refused(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SGLang().answer(document)


def test_the_served_models_are_read() -> None:
    assert SGLang().served_models({"data": [{"id": "a"}, {"id": "b"}]}) == ["a", "b"]


@pytest.mark.parametrize("document", [None, [], {}, {"data": None}, {"data": [{}]}, {"data": "ab"}, "text"])
def test_what_names_no_models_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="/v1/models gave"):
        SGLang().served_models(document)


def test_the_first_request_is_short_and_shares_no_prefix() -> None:
    body: dict[str, Any] = {"text": "Once upon a time", "sampling_params": {"temperature": 0}}
    short = SGLang().one_token(body)
    assert short["sampling_params"] == {"temperature": 0, "max_new_tokens": 1}
    assert short["text"][0] != body["text"][0]
    assert body["sampling_params"] == {"temperature": 0}


def test_engines_are_found_by_name() -> None:
    assert isinstance(engines.engine("sglang"), SGLang)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"engine: 'sglnag' is not one that the harness knows \(.*sglang.*\)"):
        engines.engine("sglnag")


CHAT = {"choices": [{"message": {"role": "assistant", "content": "cat"}}], "usage": {"prompt_tokens": 168}}


def test_a_chat_completion_is_read() -> None:
    assert SGLang().answer(CHAT) == Answer("cat", 168)
    assert SGLang().answer({"choices": CHAT["choices"]}) == Answer("cat", None)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"choices": []}, "the answer has no message"),
        ({"choices": [{"text": "cat"}]}, "the answer has no message"),
        ({"choices": None}, "the answer has no message"),
        ({"choices": [{"message": {"content": None}}]}, "the answer has no text"),
        ({**CHAT, "error": {"message": "boom"}}, "error object"),
    ],
)
def test_what_is_no_chat_completion_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SGLang().answer(document)


def test_one_token_of_a_chat_holds_no_picture() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}], "temperature": 0}
    short = SGLang().one_token(body)
    assert (short["model"], short["temperature"], short["max_tokens"]) == ("m", 0, 1)
    assert short["messages"] == [{"role": "user", "content": "Ready?"}]


@pytest.mark.parametrize(("value", "size"), [("16.0", 16), ("1.0", 1), ("0.0", None), ("NaN", None), ("+Inf", None)])
def test_the_page_size_is_read(value: str, size: int | None) -> None:
    assert SGLang().counters(f'sglang:page_size{{tp_rank="0"}} {value}\n').page_size == size
