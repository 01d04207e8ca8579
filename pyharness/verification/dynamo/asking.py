"""Requests to a Dynamo frontend, and what its answers say of who gave them.

With `nvext: {"extra_fields": ["worker_id", "timing"]}` an answer names the workers that prefilled and decoded it, and
the share of the prompt's blocks that the router found in the cache of the worker that it chose (`kv_hit_rate`).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WHO = {"extra_fields": ["worker_id", "timing"]}
# Ids of whole words in the stand-in's vocabulary of 2048, and of something in any larger one.
_FIRST_TOKEN, _TOKENS = 300, 1700
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Reply:
    """An answer with status 200.

    Attributes:
        text: what it says.
        finish_reason: why it ended.
        usage: its counts of tokens.
        prefill: id of the worker that prefilled, decode: of the one that decoded; None where it does not say.
        hit_rate: share of the prompt's blocks that the router knew on the chosen worker; None where it does not say.
        seconds: how long it took.
    """

    text: str
    finish_reason: str | None
    usage: dict[str, Any]
    prefill: int | None
    decode: int | None
    hit_rate: float | None
    seconds: float

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the worker that decoded had in its cache, as it says."""
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


def prompt(seed: object, tokens: int) -> list[int]:
    """Return token ids that are the same for the same seed, and shared with no other seed's beginning."""
    digests = (hashlib.sha256(f"{seed}/{place}".encode()).digest() for place in range(tokens))
    return [_FIRST_TOKEN + int.from_bytes(digest[:4], "big") % _TOKENS for digest in digests]


def chat(trial: Trial, text: str, tokens: int, **more: Any) -> dict[str, Any]:
    """Return a body for /v1/chat/completions."""
    messages = [{"role": "user", "content": text}]
    return {"model": trial.deployment.served.name, "messages": messages, "max_tokens": tokens, **more}


def completion(trial: Trial, prompt_tokens: list[int], tokens: int, **more: Any) -> dict[str, Any]:
    """Return a body for /v1/completions, with the prompt as token ids: its length is exactly known."""
    return {"model": trial.deployment.served.name, "prompt": prompt_tokens, "max_tokens": tokens, **more}


def ask(trial: Trial, prompt_tokens: list[int], tokens: int) -> Exchange:
    """Send a prompt to /v1/completions, and ask who answered."""
    body = completion(trial, prompt_tokens, tokens, nvext=WHO)
    return trial.send(trial.deployment.entry + COMPLETIONS, body, float(trial.workload["answer_seconds"]))


def side_by_side(work: Callable[[_T], _R], items: Iterable[_T], at_once: int) -> list[_R]:
    """Do something with each item, so many at a time. Returns what came of them, in the items' order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, items))


def problem(exchange: Exchange) -> str | None:
    """Say what is wrong with an answer that ought to be one; None where it is one."""
    if exchange.status != 200 or exchange.problem:
        return exchange.problem or f"HTTP {exchange.status}: {(exchange.body or '')[:300]}"
    try:
        document = exchange.json()
        choice = document["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, TypeError, LookupError):
        return f"HTTP 200 without a choice: {(exchange.body or '')[:300]}"
    return None if isinstance(text, str) and text else "HTTP 200 with an empty text"


def reply(exchange: Exchange) -> Reply:
    """Read an answer.

    Raises:
        CheckFailed: it is none.
    """
    told = problem(exchange)
    if told:
        raise CheckFailed(
            f"{exchange.url}: {told}",
            {"exchange": exchange.transcript()[-2000:]},
            hint="the whole exchange is in curl_response.log; the services' own words are in the logs beside it",
        )
    document = exchange.json()
    choice, extension = document["choices"][0], document.get("nvext") or {}
    who = extension.get("worker_id") or {}
    return Reply(
        text=choice["message"]["content"] if "message" in choice else choice["text"],
        finish_reason=choice.get("finish_reason"),
        usage=document.get("usage") or {},
        prefill=who.get("prefill_worker_id"),
        decode=who.get("decode_worker_id"),
        hit_rate=(extension.get("timing") or {}).get("kv_hit_rate"),
        seconds=round(exchange.seconds, 3),
    )


def replies(exchanges: list[Exchange]) -> list[Reply]:
    """Read many answers; the first that is none is told of, with how many are none.

    Raises:
        CheckFailed: one is none.
    """
    wrong = [told for exchange in exchanges if (told := problem(exchange))]
    if wrong:
        raise CheckFailed(
            f"{len(wrong)} of {len(exchanges)} requests failed, the first with {wrong[0]}",
            {"requests": len(exchanges), "failed": len(wrong), "first": wrong[:3]},
            hint="see curl_response.log, and the frontend's log for each request",
        )
    return [reply(exchange) for exchange in exchanges]
