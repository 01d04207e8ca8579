"""What the harness reads of Dynamo: answers, models, metrics as 1.6.1 gives them."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness.engines import engine
from pyharness.engines.base import Answer

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.dynamo]

DYNAMO = engine("dynamo")
USAGE = {"prompt_tokens": 19, "completion_tokens": 5, "total_tokens": 24, "prompt_tokens_details": {"cached_tokens": 0}}
CHAT = {"choices": [{"index": 0, "message": {"content": " driftless eagle", "role": "assistant"}}], "usage": USAGE}
TEXT = {"choices": [{"index": 0, "text": " driftless eagle", "finish_reason": "length"}], "usage": USAGE}
FRONTEND = """\
# TYPE dynamo_frontend_requests_total counter
dynamo_frontend_requests_total{endpoint="chat_completions",model="m",request_type="unary",status="success"} 5
dynamo_frontend_requests_total{endpoint="completions",model="m",request_type="stream",status="error"} 2
# TYPE dynamo_frontend_model_kv_cache_block_size gauge
dynamo_frontend_model_kv_cache_block_size{model="m"} 16
"""
WORKER = """\
# TYPE dynamo_component_requests_total counter
dynamo_component_requests_total{dynamo_component="backend",dynamo_endpoint="generate",model="m"} 7
dynamo_component_requests_total{dynamo_component="backend",dynamo_endpoint="worker_kv_query_source_1"} 3
"""


@pytest.mark.parametrize("document", [CHAT, TEXT])
def test_an_answer_is_read_in_both_forms(document: dict[str, Any]) -> None:
    assert DYNAMO.answer(document) == Answer(" driftless eagle", 19)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"message": "Service temporarily unavailable", "type": "Service Unavailable", "code": 503},
        {"choices": []},
        {"choices": [{"message": {"content": None}}]},
        {"choices": [{"text": 7}]},
    ],
)
def test_what_is_no_answer_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="the answer"):
        DYNAMO.answer(document)


def test_models_are_read() -> None:
    assert DYNAMO.served_models({"object": "list", "data": [{"id": "m", "object": "model"}]}) == ["m"]
    assert DYNAMO.served_models({"object": "list", "data": []}) == []
    with pytest.raises(ValueError, match="/v1/models gave"):
        DYNAMO.served_models({"message": "no"})


def test_requests_are_counted_of_frontends_and_workers() -> None:
    counted = DYNAMO.counters(FRONTEND)
    assert (counted.requests, counted.page_size, counted.transferred_bytes) == (7, 16, None)
    # What asks a worker for the contents of its cache is no request for an answer.
    assert DYNAMO.counters(WORKER).requests == 7
    assert DYNAMO.counters("").requests is None


def test_a_counter_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        DYNAMO.counters(WORKER.replace(" 7\n", " +Inf\n"))


def test_one_token_is_asked_of_another_prompt() -> None:
    chat = DYNAMO.one_token({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 50})
    assert (chat["max_tokens"], chat["messages"][0]["content"]) == (1, "Ready?")
    assert DYNAMO.one_token({"model": "m", "prompt": "x"}) == {"model": "m", "prompt": "Ready?", "max_tokens": 1}
