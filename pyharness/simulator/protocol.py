"""The inference requests and answers of SGLang 0.5.23: ``/generate`` and the two of OpenAI's form."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

from pyharness.simulator import text
from pyharness.simulator.engines import Answer, BadRequestError, Bootstrap, Prompt
from pyharness.simulator.model import CONTEXT_LENGTH
from pyharness.simulator.replies import Reply, event_stream, json_reply

GENERATE: Final = "/generate"
COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat/completions"
INFERENCE_PATHS: Final = (GENERATE, COMPLETIONS, CHAT)
_LIMIT_NAMES: Final = {
    GENERATE: ("max_new_tokens",),
    COMPLETIONS: ("max_tokens",),
    CHAT: ("max_completion_tokens", "max_tokens"),
}
_DEFAULT_NEW_TOKENS: Final = {GENERATE: 128, COMPLETIONS: 16, CHAT: CONTEXT_LENGTH}
"""What SGLang assumes when a request does not say."""


@dataclass(frozen=True)
class Request:
    """An inference request, understood.

    Attributes:
        path: One of `INFERENCE_PATHS`.
        prompt: What to continue.
        stream: Whether the client wants server-sent events.
        include_usage: Whether a stream ends with the token counts.
        model: The model that the client named.
        identifier: The id of the answer.
    """

    path: str
    prompt: Prompt
    stream: bool
    include_usage: bool
    model: str | None
    identifier: str


def parse_request(path: str, raw: bytes) -> Request:
    """Read the body of an inference request, with or without what a P/D router adds.

    Args:
        path: One of `INFERENCE_PATHS`.
        raw: The body.

    Raises:
        BadRequestError: It is not JSON, or has no usable prompt, or a setting makes no sense.
    """
    try:
        body = json.loads(raw)
    except ValueError as error:
        message = f"the body is not JSON: {error}"
        raise BadRequestError(message) from error
    if not isinstance(body, dict):
        message = "the body is not a JSON object"
        raise BadRequestError(message)
    settings = (body.get("sampling_params") or {}) if path == GENERATE else body
    tokens = _prompt_tokens(path, body)
    if not 0 < len(tokens) <= CONTEXT_LENGTH:
        message = f"the prompt has {len(tokens)} tokens; the model takes 1 to {CONTEXT_LENGTH}"
        raise BadRequestError(message)
    return Request(
        path=path,
        prompt=Prompt(tokens, _max_new_tokens(path, settings), bool(settings.get("ignore_eos")), _bootstrap(body)),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        model=body.get("model"),
        identifier=str(body.get("rid") or uuid.uuid4().hex),
    )


def render(request: Request, answer: Answer, model_name: str, seconds: float) -> Reply:
    """Put an answer into the form of the request's endpoint.

    Args:
        request: What was asked.
        answer: What the engine said.
        model_name: The model to name.
        seconds: How long it took, for ``e2e_latency``.
    """
    if request.path == GENERATE:
        return _render_generate(request, answer, seconds)
    return _render_openai(request, answer, model_name)


def _max_new_tokens(path: str, settings: dict[str, Any]) -> int:
    given = next((settings[name] for name in _LIMIT_NAMES[path] if settings.get(name) is not None), None)
    limit = _DEFAULT_NEW_TOKENS[path] if given is None else given
    if not isinstance(limit, int) or limit < 0:
        message = f"{_LIMIT_NAMES[path][0]} must be a whole number of at least 0, got {limit!r}"
        raise BadRequestError(message)
    return min(limit, CONTEXT_LENGTH)


def _prompt_tokens(path: str, body: dict[str, Any]) -> tuple[int, ...]:
    if path == CHAT:
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            message = "messages must be a list of objects"
            raise BadRequestError(message)
        return tuple(text.encode(text.chat_prompt([_chat_message(entry) for entry in messages])))
    names = ("text", "input_ids") if path == GENERATE else ("prompt",)
    given = next((body[name] for name in names if body.get(name) is not None), None)
    if isinstance(given, str):
        return tuple(text.encode(given))
    if isinstance(given, list) and all(isinstance(token, int) and 0 <= token < 1 << 32 for token in given):
        return tuple(given)
    message = f"{' or '.join(names)} must be one string or one list of token ids: the simulator takes no batches"
    raise BadRequestError(message)


def _chat_message(entry: dict[str, Any]) -> tuple[str, str]:
    content = entry.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(entry.get("role")), str(content or "")


def _bootstrap(body: dict[str, Any]) -> Bootstrap | None:
    if body.get("bootstrap_room") is None:
        return None
    try:
        return Bootstrap(str(body["bootstrap_host"]), int(body["bootstrap_port"]), int(body["bootstrap_room"]))
    except (KeyError, TypeError, ValueError) as error:
        message = f"bootstrap_room without usable bootstrap_host and bootstrap_port: {error!r}"
        raise BadRequestError(message) from error


def _finish(request: Request, answer: Answer) -> str:
    return "length" if len(answer.ids) >= request.prompt.max_new_tokens else "stop"


def _render_generate(request: Request, answer: Answer, seconds: float) -> Reply:
    length = len(answer.ids)
    finish = (
        {"type": "length", "length": length}
        if _finish(request, answer) == "length"
        else {"type": "stop", "matched": text.END_TOKEN}
    )

    def state(ids: list[int], *, last: bool) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "id": request.identifier,
            "finish_reason": finish if last else None,
            "prompt_tokens": len(request.prompt.tokens),
            "weight_version": "default",
            "num_retractions": 0,
            "reasoning_tokens": 0,
            "completion_tokens": len(ids),
            "cached_tokens": answer.cached_tokens,
        }
        if last:
            meta["e2e_latency"] = seconds
        return {"text": text.decode(ids), "output_ids": ids, "meta_info": meta}

    if not request.stream:
        return json_reply(state(answer.ids, last=True))
    # SGLang's events repeat all of the text so far.
    ends = range(1, length + 1) if length else range(1)
    return event_stream([state(answer.ids[:end], last=end == length) for end in ends])


def _render_openai(request: Request, answer: Answer, model_name: str) -> Reply:
    chat = request.path == CHAT
    prompt, generated = len(request.prompt.tokens), len(answer.ids)
    usage = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
    }
    common = {"id": request.identifier, "created": int(time.time()), "model": model_name}
    finish = _finish(request, answer)
    matched = text.END_TOKEN if finish == "stop" else None

    def choice(content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        ending = {"finish_reason": reason, "matched_stop": matched if reason else None}
        return {"index": 0, **content, "logprobs": None, **ending}

    if not request.stream:
        words = text.decode(answer.ids)
        message = {"role": "assistant", "content": words, "reasoning_content": None}
        content: dict[str, Any] = {"message": message} if chat else {"text": words}
        kind = "chat.completion" if chat else "text_completion"
        return json_reply({**common, "object": kind, "choices": [choice(content, finish)], "usage": usage})

    common["object"] = "chat.completion.chunk" if chat else "text_completion"
    deltas: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}] if chat else []
    deltas += ({"delta": {"content": word}} if chat else {"text": word} for word in map(_word, answer.ids))
    events = [{**common, "choices": [choice(delta, None)], "usage": None} for delta in deltas]
    last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    events.append({**common, "choices": [choice(last, finish)], "usage": None})
    if request.include_usage:
        events.append({**common, "choices": [], "usage": usage})
    return event_stream(events)


def _word(token: int) -> str:
    return text.decode([token])
