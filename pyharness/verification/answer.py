"""The answer is there and is the one that one engine alone gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.engines.base import Answer, Engine
    from pyharness.exercise import Exchange

_SHOWN = 300


def read_answer(exchange: Exchange, engine: Engine) -> Answer:
    """Return what was answered.

    Raises:
        CheckFailed: no answer, not HTTP 200, no JSON, an error object, or no text.
    """
    evidence = {
        "url": exchange.url,
        "status": exchange.status,
        "body": (exchange.body or "")[:_SHOWN],
        "problem": exchange.problem,
        "seconds": round(exchange.seconds, 3),
    }
    hint = "the whole exchange is in curl_response.log; the servers' own words are in the logs beside it"
    if exchange.status is None or exchange.problem:
        raise CheckFailed(f"{exchange.url}: {exchange.problem}", evidence, hint=hint)
    if exchange.status != 200:
        raise CheckFailed(f"{exchange.url}: HTTP {exchange.status}: {evidence['body']}", evidence, hint=hint)
    try:
        answer = engine.answer(exchange.json())
    except ValueError as error:
        raise CheckFailed(f"{exchange.url}: HTTP 200, but {error}", evidence, hint=hint) from error
    if not answer.text.strip():
        raise CheckFailed(f"{exchange.url}: HTTP 200 with an empty text", evidence, hint=hint)
    return answer


def answer_correct(
    exchange: Exchange, engine: Engine, reference: dict[str, Any] | None, method: str, pattern: str | None = None
) -> Evidence:
    """Check status, form and text of the answer.

    Args:
        exchange: the request and its answer.
        engine: how to read it.
        reference: what one engine alone answers to the same request: text, and prompt_tokens where known.
        method: how that was found, for the report.
        pattern: with method `pattern`, the regular expression that the text has to match, in either case.
    """
    answer = read_answer(exchange, engine)
    if method == "pattern":
        return _matching(exchange, answer, pattern or "")
    if reference is None:
        raise CheckFailed(
            f"there is no reference answer to compare with (method: {method})",
            {"text": answer.text},
            hint="see docs/troubleshooting.md, 'No reference answer'",
            class_="configuration",
        )
    evidence = {
        "status": exchange.status,
        "seconds": round(exchange.seconds, 3),
        "text": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "reference": {key: value for key, value in reference.items() if not isinstance(value, list)},
        "reference_method": method,
    }
    if answer.text != reference["text"]:
        same = next(
            (i for i, (a, b) in enumerate(zip(answer.text, reference["text"], strict=False)) if a != b),
            min(len(answer.text), len(reference["text"])),
        )
        raise CheckFailed(
            f"the text differs from what one engine alone answers ({method}), from character {same} on: "
            f"{answer.text[same : same + 60]!r} instead of {reference['text'][same : same + 60]!r}",
            evidence,
            hint="a KV cache that arrived damaged or incomplete does this; so do other weights or another precision",
        )
    if reference.get("prompt_tokens") is not None and answer.prompt_tokens != reference["prompt_tokens"]:
        raise CheckFailed(
            f"the prompt had {answer.prompt_tokens} tokens, and {reference['prompt_tokens']} for one engine alone",
            evidence,
            hint="the servers use another tokenizer than the reference",
        )
    return evidence


def _matching(exchange: Exchange, answer: Answer, pattern: str) -> Evidence:
    evidence = {
        "status": exchange.status,
        "seconds": round(exchange.seconds, 3),
        "text": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "reference": {"pattern": pattern},
        "reference_method": "pattern",
    }
    if not re.search(pattern, answer.text, re.IGNORECASE):
        raise CheckFailed(
            f"the text does not match /{pattern}/: {answer.text[:_SHOWN]!r}",
            evidence,
            hint="a KV cache that arrived damaged or incomplete does this; so does another model",
        )
    return evidence
