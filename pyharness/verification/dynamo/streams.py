"""Streams of a Dynamo frontend: whole, or told of what is missing; and who serves them.

A stream of completions ends with ``data: [DONE]`` (https://platform.openai.com/docs/api-reference/completions). Dynamo
sends it after an error event too, so the end alone says nothing: whole is what has a reason to end and all its tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.deployment import Service
    from pyharness.streamed import Event, Streamed
    from pyharness.streaming import Stream
    from pyharness.verification.base import Trial

# A stream that is to be disturbed is under way once this many events have come.
_EVENTS = 10
_FIRST_SECONDS = 20.0
_HINT = "the stream, event by event, is in curl_response.log; the frontend's log has the request by its id"


def begin(trial: Trial, seed: str, tokens: int, /, *, annotations: Sequence[str] = (), **more: object) -> Stream:
    """Begin a stream of that many tokens, whose answers say which worker they are from.

    Args:
        trial: whose frontend.
        seed: makes the prompt; another one shares no prefix with it.
        tokens: how many to ask for.
        annotations: of `nvext`: what else is asked of Dynamo.
        more: of the request's body.
    """
    extension = {**asking.WHO, **({"annotations": list(annotations)} if annotations else {})}
    body = asking.completion(trial, prompt(trial, seed), tokens, nvext=extension, **more)
    body["stream_options"] = {"include_usage": True}
    return trial.stream(
        trial.deployment.entry + asking.COMPLETIONS, body, total_seconds=float(trial.workload["stream_seconds"])
    )


def prompt(trial: Trial, seed: str) -> list[int]:
    """Return the prompt of a stream: `prompt_tokens` token ids."""
    return asking.prompt(seed, int(trial.workload["prompt_tokens"]))


def under_way(trial: Trial, stream: Stream, kind: str = "decode") -> Service:
    """Wait until a stream is under way. Returns the worker that serves it.

    Args:
        trial: whose workers.
        stream: which.
        kind: whose work is asked for, where two share it: prefill or decode.

    Raises:
        CheckFailed: it does not begin, or nobody says that he serves it.
    """
    if not stream.wait_events(_EVENTS, _FIRST_SECONDS):
        told = stream.result() if stream.is_over else None
        raise CheckFailed(
            f"a stream does not begin: {len(stream.events)} events within {_FIRST_SECONDS:g} s"
            + (f", {told.ending}: {told.problem or told.error}" if told else ""),
            told.evidence() if told else {},
            hint=_HINT,
        )
    number = server(stream.events, kind)
    name = metrics.worker_ids(trial).get(number or 0)
    service = next((entry for entry in trial.deployment.services if entry.name == name), None)
    if service is None:
        raise CheckFailed(
            f"a stream says that worker {number} serves it, and no worker has that id",
            {"worker_ids": metrics.worker_ids(trial)},
            hint="the ids of workers are in their /metrics, label worker_id, as hexadecimal digits",
        )
    return service


def server(events: Sequence[Event], kind: str = "decode") -> int | None:
    """Return the id of the worker that sent the last events; None where they do not say."""
    for event in reversed(events):
        who = (event.content.get("nvext") or {}).get("worker_id") or {}
        if who.get(f"{kind}_worker_id") is not None:
            return int(who[f"{kind}_worker_id"])
    return None


def delivered(told: Streamed) -> int:
    """Return how many tokens came: an event each, besides the one that has the reason to end and none."""
    return sum(
        1
        for event in told.events
        for choice in event.content.get("choices") or []
        if not choice.get("finish_reason") or choice.get("text") or (choice.get("delta") or {}).get("content")
    )


def whole(told: Streamed, tokens: int) -> Evidence:
    """Check that a stream is whole: a reason to end, no error, and all its tokens.

    Raises:
        CheckFailed: it is not.
    """
    evidence: Evidence = {**told.evidence(), "tokens": delivered(told), "asked_tokens": tokens}
    if not told.complete:
        reason = told.error or told.problem or "no reason to end"
        raise CheckFailed(
            f"the stream is not whole: {delivered(told)} of {tokens} tokens, {told.ending}, {reason}",
            evidence,
            hint=_HINT,
        )
    counted = (told.usage or {}).get("completion_tokens")
    if delivered(told) != tokens or counted != tokens:
        raise CheckFailed(
            f"the stream ends as if it were whole, with {delivered(told)} of {tokens} tokens (usage: {counted})",
            evidence,
            hint=_HINT,
        )
    return evidence


def told_of_loss(told: Streamed, tokens: int) -> Evidence:
    """Check that a stream whose worker is gone says so: an error event, then its end, and no reason to end.

    Raises:
        CheckFailed: it says nothing, or something else.
    """
    evidence: Evidence = {**told.evidence(), "tokens": delivered(told), "asked_tokens": tokens}
    if told.error and told.finish_reason is None and told.ending == "done" and delivered(told) < tokens:
        return evidence
    if told.error is None:
        taken = "taken for whole" if told.finish_reason else "without an error"
        problem = f"the stream of a worker that is gone ends {taken} after {delivered(told)} of {tokens} tokens"
    else:
        problem = f"the stream of a worker that is gone tells an error, and goes on as if there were none: {told.error}"
    raise CheckFailed(f"{problem} ({told.ending}, {told.problem or 'no problem'})", evidence, hint=_HINT)


def counts_right(told: Streamed, prompt_tokens: int) -> Evidence:
    """Check that the usage of a stream that moved to another worker counts as prompt what was the prompt.

    Raises:
        CheckFailed: it counts something else.
    """
    counted = (told.usage or {}).get("prompt_tokens")
    evidence: Evidence = {"usage": told.usage, "prompt_tokens": prompt_tokens}
    if counted != prompt_tokens:
        raise CheckFailed(
            f"usage.prompt_tokens is {counted}, and the prompt has {prompt_tokens} tokens",
            evidence,
            hint="what was generated before the migration goes to the next worker as a part of the prompt",
        )
    return evidence


def gap_of(told: Streamed, moment: float) -> float:
    """Return the seconds without a token around a moment of the monotonic clock, or the longest that followed it."""
    around = told.gap_around(moment)
    after = [gap for event, gap in zip(told.content_events[1:], told.gaps, strict=False) if event.at >= moment]
    return round(max([around or 0.0, *after]), 4)
