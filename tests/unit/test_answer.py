"""The answer under test against what one engine alone answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyharness.engines.sglang import SGLang
from pyharness.exercise import Exchange
from pyharness.verification.answer import answer_correct, read_answer
from pyharness.verification.base import CheckFailed

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

REFERENCE = {"text": "hello world", "prompt_tokens": 13, "output_ids": [1, 2]}


def exchange(body: Any = None, *, status: int | None = 200, problem: str | None = None) -> Exchange:
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    return Exchange("POST", "http://one/generate", {}, status, {}, text, problem, 0.5)


def answered(text: str = "hello world", tokens: int | None = 13) -> Exchange:
    return exchange({"text": text, "meta_info": {"prompt_tokens": tokens}})


def refused(done: Exchange, reference: dict[str, Any] | None = REFERENCE) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        answer_correct(done, SGLang(), reference, "transformers")
    return caught.value


def test_the_same_answer_is_right() -> None:
    evidence = answer_correct(answered(), SGLang(), REFERENCE, "transformers")
    assert evidence["text"] == "hello world"
    assert evidence["reference"] == {"text": "hello world", "prompt_tokens": 13}
    assert evidence["reference_method"] == "transformers"


def test_tokens_are_compared_where_the_reference_knows_them() -> None:
    assert answer_correct(answered(tokens=99), SGLang(), {"text": "hello world"}, "recorded")
    failure = refused(answered(tokens=12))
    assert str(failure) == "the prompt had 12 tokens, and 13 for one engine alone"


@pytest.mark.parametrize(
    ("text", "position"), [("hello wörld", 7), ("hello", 5), ("hello world, again", 11), ("Hello world", 0)]
)
def test_another_text_is_told_from_where_it_differs(text: str, position: int) -> None:
    failure = refused(answered(text))
    assert failure.class_ == "product"
    assert not failure.spoils_judgement
    assert f"(transformers), from character {position} on: {text[position:]!r} instead of " in str(failure)
    assert failure.evidence["text"] == text


def test_without_a_reference_nothing_can_be_judged() -> None:
    failure = refused(answered(), None)
    assert failure.class_ == "configuration"
    assert "no reference answer to compare with (method: transformers)" in str(failure)


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (exchange(status=None, problem="connection refused"), "connection refused"),
        (exchange("half", problem="connection broke: reset"), "connection broke: reset"),
        (exchange("no worker", status=503), "HTTP 503: no worker"),
        (exchange("", status=500), "HTTP 500: "),
        (exchange("<html>"), "HTTP 200, but Expecting value"),
        (exchange(None), "HTTP 200, but no answer"),
        (exchange({"error": "boom"}), "HTTP 200, but the answer holds an error object: boom"),
        (exchange({"text": ""}), "HTTP 200 with an empty text"),
        (exchange({"text": " \n"}), "HTTP 200 with an empty text"),
        (exchange([1]), "HTTP 200, but the answer is no JSON object"),
    ],
)
def test_what_is_no_answer_is_the_products_failure(done: Exchange, said: str) -> None:
    failure = refused(done)
    assert str(failure).startswith(f"http://one/generate: {said}")
    assert failure.class_ == "product"
    assert failure.evidence["url"] == "http://one/generate"
    assert "curl_response.log" in failure.hint


def test_a_long_body_is_shortened_in_the_evidence() -> None:
    with pytest.raises(CheckFailed) as caught:
        read_answer(exchange("x" * 10_000, status=500), SGLang())
    assert len(caught.value.evidence["body"]) == 300
