"""Inference requests, as sglang-router 0.3.2 sends them, and answers, as SGLang gives them."""

import json
from typing import Any

import pytest

from pyharness.simulator import text
from pyharness.simulator.engines import Answer, BadRequestError, Bootstrap
from pyharness.simulator.protocol import CHAT, COMPLETIONS, GENERATE, parse_request, render
from pyharness.simulator.replies import DONE, Reply

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

ROOM = {"bootstrap_host": "127.0.0.31", "bootstrap_port": 32101, "bootstrap_room": 8009932714825841703}
ROUTED: dict[str, dict[str, Any]] = {
    GENERATE: {
        "text": "hello",
        "model": None,
        "sampling_params": {"temperature": 0.0, "max_new_tokens": 8},
        "stream": False,
        "return_hidden_states": False,
    },
    COMPLETIONS: {
        "model": "tiny",
        "prompt": "hello",
        "max_tokens": 8,
        "temperature": 0.0,
        "ignore_eos": False,
    },
    CHAT: {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 8},
}
IDS = text.answer_ids(b"some KV cache", 3)
ANSWER = Answer(IDS, 2, "a note")


def rendered(path: str, **extra: Any) -> Reply:
    request = parse_request(path, json.dumps(ROUTED[path] | extra).encode())
    return render(request, ANSWER, "tiny", 0.25)


def events(reply: Reply) -> list[dict[str, Any]]:
    assert reply.streamed
    assert reply.body[-1] == DONE
    return [json.loads(piece.removeprefix(b"data: ")) for piece in reply.body[:-1]]


@pytest.mark.parametrize("path", ROUTED)
def test_what_the_router_sends_is_understood(path: str) -> None:
    request = parse_request(path, json.dumps(ROUTED[path] | ROOM).encode())
    prompt = "<|user|>hello\n<|assistant|>" if path == CHAT else "hello"
    assert request.prompt.tokens == tuple(prompt.encode())
    assert request.prompt.max_new_tokens == 8
    assert request.prompt.bootstrap == Bootstrap("127.0.0.31", 32101, 8009932714825841703)
    assert request.model == (None if path == GENERATE else "tiny")
    assert not request.stream


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        (GENERATE, {"text": "x"}, 128),
        (COMPLETIONS, {"prompt": "x"}, 16),
        (CHAT, {"messages": [{"role": "user", "content": "x"}]}, 4096),
        (CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}, 5),
        (GENERATE, {"text": "x", "sampling_params": {"max_new_tokens": 10**12}}, 4096),
        (GENERATE, {"text": "x", "sampling_params": {"max_new_tokens": 0}}, 0),
    ],
)
def test_the_limit_of_new_tokens_is_sglangs(path: str, body: dict[str, Any], limit: int) -> None:
    request = parse_request(path, json.dumps(body).encode())
    assert request.prompt.max_new_tokens == limit
    assert request.prompt.bootstrap is None


def test_token_ids_and_parts_of_messages_are_prompts_too() -> None:
    assert parse_request(GENERATE, b'{"input_ids": [1, 2, 300]}').prompt.tokens == (1, 2, 300)
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}]}
    tokens = parse_request(CHAT, json.dumps(parts).encode()).prompt.tokens
    assert tokens == tuple(b"<|user|>ab\n<|assistant|>")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (GENERATE, b"{", "not JSON"),
        (GENERATE, b"[]", "not a JSON object"),
        (GENERATE, b"{}", "text or input_ids"),
        (GENERATE, b'{"text": ["a", "b"]}', "no batches"),
        (GENERATE, b'{"text": ""}', "0 tokens"),
        (GENERATE, json.dumps({"text": "x" * 4097}).encode(), "4097 tokens"),
        (GENERATE, b'{"text": "x", "sampling_params": {"max_new_tokens": -1}}', "max_new_tokens"),
        (COMPLETIONS, b'{"prompt": "x", "max_tokens": "8"}', "max_tokens"),
        (CHAT, b'{"messages": "hello"}', "messages"),
        (GENERATE, b'{"text": "x", "bootstrap_room": 1}', "bootstrap_host"),
    ],
)
def test_an_unusable_request_is_refused(path: str, body: bytes, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        parse_request(path, body)


def test_generate_answers_in_sglangs_form() -> None:
    reply = rendered(GENERATE, rid="request-1")
    body = json.loads(reply.body[0])
    assert reply.status == 200
    assert body["text"] == text.decode(IDS)
    assert body["output_ids"] == IDS
    assert body["meta_info"] == {
        "id": "request-1",
        "finish_reason": {"type": "stop", "matched": text.END_TOKEN},
        "prompt_tokens": 5,
        "weight_version": "default",
        "num_retractions": 0,
        "reasoning_tokens": 0,
        "completion_tokens": 3,
        "cached_tokens": 2,
        "e2e_latency": 0.25,
    }


def test_an_answer_that_fills_the_limit_ended_by_length() -> None:
    body = json.loads(rendered(GENERATE, sampling_params={"max_new_tokens": 3}).body[0])
    assert body["meta_info"]["finish_reason"] == {"type": "length", "length": 3}


def test_streamed_generate_repeats_the_text_so_far() -> None:
    states = events(rendered(GENERATE, stream=True))
    assert [state["text"] for state in states] == [text.decode(IDS[:end]) for end in (1, 2, 3)]
    assert [bool(state["meta_info"]["finish_reason"]) for state in states] == [False, False, True]


def test_completions_answer_in_openais_form() -> None:
    body = json.loads(rendered(COMPLETIONS).body[0])
    assert body["object"] == "text_completion"
    assert body["model"] == "tiny"
    assert body["choices"][0]["text"] == text.decode(IDS)
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 5 + 3


def test_chat_answers_in_openais_form() -> None:
    body = json.loads(rendered(CHAT).body[0])
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == text.decode(IDS)
    assert body["choices"][0]["message"]["role"] == "assistant"


def test_streamed_completions_are_deltas_with_usage_on_demand() -> None:
    chunks = events(rendered(COMPLETIONS, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == text.decode(IDS)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3


def test_streamed_chat_begins_with_the_role() -> None:
    chunks = events(rendered(CHAT, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == text.decode(IDS)
    assert deltas[-1] == {}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
