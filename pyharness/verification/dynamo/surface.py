"""The OpenAI surface: what answers, streams and errors have to look like.

Forms: https://platform.openai.com/docs/api-reference (chat/object, chat-streaming, completions/object), and its
`ErrorResponse` for errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness.streamed import DONE
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo.asking import CHAT

if TYPE_CHECKING:
    from pyharness.exercise import Exchange
    from pyharness.streamed import Streamed

_HINT = "the whole exchange is in curl_response.log"


@dataclass(frozen=True)
class Expected:
    """What was asked, as far as the answer has to show it.

    Attributes:
        path: of the endpoint.
        model: its name.
        prompt_tokens: of the prompt; None where a chat's template adds what nobody has counted.
        tokens: that the answer has to have.
    """

    path: str
    model: str
    prompt_tokens: int | None
    tokens: int

    @property
    def chat(self) -> bool:
        """Whether it is a chat."""
        return self.path == CHAT


def models_listed(exchange: Exchange, wanted: str) -> Evidence:
    """Check that /v1/models has exactly the model that was deployed, in the form of a list of models."""
    try:
        document = exchange.json()
        entries = document["data"]
        names = [entry["id"] for entry in entries]
        form = document["object"] == "list" and all(
            entry["object"] == "model" and isinstance(entry["created"], int) and entry["owned_by"] for entry in entries
        )
    except (ValueError, TypeError, LookupError):
        names, form, entries = [], False, []
    if exchange.status != 200 or names != [wanted] or not form:
        raise CheckFailed(
            f"/v1/models: {exchange.problem or f'HTTP {exchange.status}'} with {names}, and {[wanted]} is served",
            {"exchange": exchange.transcript()[:2000]},
            hint="a list of models has `object: list`, and each model id, object, created and owned_by",
        )
    return {"models": names, "entry": entries[0]}


def answer_well_formed(exchange: Exchange, expected: Expected) -> Evidence:
    """Check an unstreamed answer: its form, its text, why it ended, and its counts."""
    wrong: list[str] = []
    try:
        document = exchange.json()
        choice = document["choices"][0]
        text = choice["message"]["content"] if expected.chat else choice["text"]
        usage = document["usage"]
    except (ValueError, TypeError, LookupError):
        raise _bad(exchange, ["it has no choice with a text, or no usage"]) from None
    wanted = "chat.completion" if expected.chat else "text_completion"
    if exchange.status != 200:
        wrong.append(f"HTTP {exchange.status}")
    if document.get("object") != wanted:
        wrong.append(f"object is {document.get('object')!r}, and {wanted} was asked for")
    if document.get("model") != expected.model:
        wrong.append(f"model is {document.get('model')!r}, and {expected.model} was asked")
    if not document.get("id") or not isinstance(document.get("created"), int):
        wrong.append("id or created is missing")
    if not isinstance(text, str) or not text.strip():
        wrong.append(f"the text is {text!r}")
    if expected.chat and choice["message"].get("role") != "assistant":
        wrong.append(f"the role is {choice['message'].get('role')!r}")
    if choice.get("finish_reason") != "length":
        wrong.append(f"finish_reason is {choice.get('finish_reason')!r}, and the answer was cut at max_tokens")
    wrong += _usage_problems(usage, expected)
    if wrong:
        raise _bad(exchange, wrong)
    return {
        "text": text,
        "usage": usage,
        "finish_reason": choice["finish_reason"],
        "seconds": round(exchange.seconds, 3),
    }


def stream_well_formed(told: Streamed, expected: Expected, *, usage_asked: bool) -> Evidence:
    """Check a stream: the order of its chunks, its text, why it ended, its counts if they were asked for, its end."""
    chunks = [event.content for event in told.events if event.content]
    wrong = []
    if told.ending != "done" or told.error:
        wrong.append(f"it ended as {told.ending}: {told.error or told.problem}")
    if [event.data for event in told.events].count(DONE) != 1 or told.events[-1].data != DONE:
        wrong.append(f"{DONE} does not come once and last")
    wrong += _chunk_problems(told, chunks, expected)
    if usage_asked:
        wrong += _usage_problems(told.usage, expected)
        if chunks and (not chunks[-1].get("usage") or chunks[-1].get("choices")):
            wrong.append("the counts do not come in a chunk of their own, the last one")
    elif told.usage is not None:
        wrong.append("it has counts that were not asked for")
    if wrong:
        raise CheckFailed(
            f"the stream of {expected.path} is not as it should be: {'; '.join(wrong)}",
            {"stream": told.transcript()[-3000:]},
            hint=_HINT,
        )
    return {
        "text": told.text,
        "chunks": len(chunks),
        "chunks_with_text": len(told.content_events),
        "finish_reason": told.finish_reason,
        "usage": told.usage,
        "first_seconds": told.first_seconds,
        "longest_gap_seconds": told.longest_gap,
    }


def _chunk_problems(told: Streamed, chunks: list[dict[str, Any]], expected: Expected) -> list[str]:
    wrong = []
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or []]
    reasons = [place for place, choice in enumerate(choices) if choice.get("finish_reason")]
    wanted = "chat.completion.chunk" if expected.chat else "text_completion"
    if {chunk.get("object") for chunk in chunks} != {wanted}:
        wrong.append(f"objects are {sorted({str(chunk.get('object')) for chunk in chunks})}, not {wanted}")
    if len({chunk.get("id") for chunk in chunks}) != 1 or {chunk.get("model") for chunk in chunks} != {expected.model}:
        wrong.append("its chunks have not all one id and the model's name")
    if reasons != [len(choices) - 1] or told.finish_reason != "length":
        wrong.append(
            f"finish_reason {told.finish_reason!r} stands in {len(reasons)} chunks, and belongs in the last one"
        )
    if expected.chat and [bool((choice.get("delta") or {}).get("role")) for choice in choices].count(True) != 1:
        wrong.append("the role does not come once")
    if len(told.content_events) != expected.tokens:
        wrong.append(f"{len(told.content_events)} chunks have text, and {expected.tokens} tokens were asked for")
    return wrong


def same_text(exchange: Exchange, told: Streamed, expected: Expected) -> Evidence:
    """Check that a stream and an unstreamed answer to the same replayed request say the same."""
    try:
        choice = exchange.json()["choices"][0]
        text = choice["message"]["content"] if expected.chat else choice["text"]
    except (ValueError, TypeError, LookupError):
        raise _bad(exchange, ["it has no choice with a text"]) from None
    if not text or told.text != text:
        raise CheckFailed(
            f"{expected.path} streams {told.text!r:.200}, and answers {text!r:.200} at once",
            {"streamed": told.text, "unstreamed": text, "stream": told.evidence()},
            hint="both replay the same tokens: what differs was lost or changed between worker and client",
        )
    return {"text": text, "characters": len(text), "chunks_with_text": len(told.content_events)}


def error_told(name: str, exchange: Exchange, status: int) -> Evidence:
    """Check an error: its status, and an object that says what is wrong. Where it stands is another check's."""
    fault = error_object(exchange)
    if exchange.status != status or not fault.get("message") or fault.get("code") != status or not fault.get("type"):
        raise CheckFailed(
            f"{name}: {exchange.problem or f'HTTP {exchange.status}'} {(exchange.body or '')[:300]}, and HTTP {status} "
            "with an error object (message, type, code) is what it ought to be",
            {"exchange": exchange.transcript()[-2000:]},
            hint=_HINT,
        )
    return {"status": exchange.status, **{key: str(fault[key])[:120] for key in ("message", "type", "code")}}


def error_event_told(name: str, told: Streamed, status: int) -> Evidence:
    """Check an error of a stream that has begun: HTTP 200, an event with the error, and the stream's own end."""
    fault: dict[str, Any] = next((found for event in told.events if (found := event.content.get("error"))), {})
    if not fault.get("message") or fault.get("code") != status or told.ending != "done":
        raise CheckFailed(
            f"{name}, streamed: ended as {told.ending} with the error {told.error or told.problem or told.body}, and "
            f"code {status} in an error event before [DONE] is what it ought to be",
            {"stream": told.transcript()[-2000:]},
            hint=_HINT,
        )
    return {"status": told.status, "error": fault, "events": len(told.events), "seconds": round(told.seconds, 3)}


def errors_wrapped(exchanges: list[Exchange]) -> Evidence:
    """Check that errors stand below `error`, as OpenAI's ErrorResponse has them, and this frontend's streams."""
    flat = [exchange for exchange in exchanges if "error" not in _document(exchange)]
    if flat:
        raise CheckFailed(
            f"{len(flat)} of {len(exchanges)} errors are not below `error`, the first: {(flat[0].body or '')[:200]}",
            {"errors": len(exchanges), "flat": len(flat), "bodies": [(one.body or "")[:200] for one in flat[:5]]},
            hint="clients that read body.error find nothing",
        )
    return {"errors": len(exchanges), "flat": 0}


def overlong_refused(exchange: Exchange, told: Streamed, tokens: int, room: int) -> Evidence:
    """Check that a prompt that is too long is the caller's error (4xx), whether streamed or not."""
    fault: dict[str, Any] = next((found for event in told.events if (found := event.content.get("error"))), {})
    if not fault and told.body:
        fault = {"code": told.status, "message": told.body[:200]}
    evidence = {
        "prompt_tokens": tokens,
        "room": room,
        "unstreamed": {"status": exchange.status, "body": (exchange.body or exchange.problem or "")[:300]},
        "streamed": {"status": told.status, "ending": told.ending, "error": fault},
    }
    codes = [exchange.status, fault.get("code")]
    if not all(isinstance(code, int) and 400 <= code < 500 for code in codes):
        raise CheckFailed(
            f"a prompt of {tokens} tokens, with room for {room}, is told HTTP {codes[0]}, and {codes[1]} where it is "
            "streamed; 4xx is what the caller can understand",
            evidence,
            hint="the frontend knows the model's context_window (see /v1/models), and sends the prompt to a worker",
        )
    return evidence


def error_object(exchange: Exchange) -> dict[str, Any]:
    """Return the error of an answer, whether it stands below `error` or not; empty where there is none."""
    document = _document(exchange)
    found = document.get("error", document)
    return found if isinstance(found, dict) else {}


def _document(exchange: Exchange) -> dict[str, Any]:
    try:
        document = exchange.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _usage_problems(usage: dict[str, Any] | None, expected: Expected) -> list[str]:
    usage = usage or {}
    prompt, answer, total = (usage.get(f"{key}_tokens") for key in ("prompt", "completion", "total"))
    right = isinstance(prompt, int) and prompt > 0 and answer == expected.tokens and total == prompt + expected.tokens
    if not right or expected.prompt_tokens not in (None, prompt):
        wanted = f"{expected.prompt_tokens or 'some'} + {expected.tokens}"
        return [f"usage says {prompt} + {answer} = {total} tokens, and {wanted} is what there were"]
    return []


def _bad(exchange: Exchange, wrong: list[str]) -> CheckFailed:
    return CheckFailed(
        f"{exchange.url}: {exchange.problem or '; '.join(wrong)}: {(exchange.body or '')[:200]}",
        {"exchange": exchange.transcript()[-2000:]},
        hint=_HINT,
    )
