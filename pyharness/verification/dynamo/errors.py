"""Requests that a frontend has to refuse, each with its status and an error object, and what happens when time is up.

Two deadlines: the frontend's own (`DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS`: so long may a worker say nothing), and the
client's, who goes away.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from pyharness.exercise import Exchange
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, counting, metrics, surface
from pyharness.verification.dynamo.asking import CHAT, COMPLETIONS

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from pyharness.verification.dynamo.counting import Counts, Ledger

_ANSWER_SECONDS = 20.0
# A client that is gone is noticed in some hundredths of a second; what it had asked for ends with it.
_CANCEL_SECONDS = 3.0


@dataclass(frozen=True)
class Wrong:
    """A request that is wrong.

    Attributes:
        name: what is wrong with it.
        path: where it goes.
        body: what is sent.
        status: what it has to be told.
        counted: kind of error under which the frontend counts it; empty for what it refuses before it has read it.
        content_type: of the body.
    """

    name: str
    path: str
    body: bytes
    status: int
    counted: str = ""
    content_type: str = "application/json"


def wrong_requests(model: str) -> list[Wrong]:
    """Return requests with one fault each, around one that would be answered."""
    message = [{"role": "user", "content": "Hello"}]
    fine: dict[str, Any] = {"model": model, "messages": message, "max_tokens": 2}

    def but(**changes: Any) -> bytes:
        return json.dumps({**fine, **changes}).encode()

    return [
        Wrong("unknown model", CHAT, but(model="nobody/has-this"), 404, "not_found"),
        Wrong("unknown model, streamed", CHAT, but(model="nobody/has-this", stream=True), 404, "not_found"),
        Wrong(
            "unknown model of a completion",
            COMPLETIONS,
            json.dumps({"model": "nobody/has-this", "prompt": "Hello", "max_tokens": 2}).encode(),
            404,
            "not_found",
        ),
        Wrong("unknown path", "/v1/nothing", but(), 404),
        Wrong("no messages", CHAT, but(messages=[]), 400, "validation"),
        Wrong("temperature out of range", CHAT, but(temperature=9), 400, "validation"),
        Wrong("temperature out of range, streamed", CHAT, but(temperature=9, stream=True), 400, "validation"),
        Wrong("no tokens wanted", CHAT, but(max_tokens=0), 400, "validation"),
        # Not counted, as all that is refused before it is a request to a model.
        Wrong("empty prompt", COMPLETIONS, json.dumps({"model": model, "prompt": ""}).encode(), 400),
        Wrong("messages missing", CHAT, json.dumps({"model": model}).encode(), 400),
        Wrong("prompt missing", COMPLETIONS, json.dumps({"model": model}).encode(), 400),
        Wrong("temperature is a word", CHAT, but(temperature="hot"), 400),
        Wrong("role that is none", CHAT, but(messages=[{"role": "wizard", "content": "Hello"}]), 400),
        Wrong("JSON that breaks off", CHAT, but()[:-1], 400),
        Wrong("no JSON", COMPLETIONS, b"Hello", 400),
        Wrong("a list", COMPLETIONS, b"[]", 400),
        Wrong("nothing", COMPLETIONS, b"", 400),
        Wrong("another content type", CHAT, but(), 415, content_type="text/plain"),
    ]


def post(url: str, wrong: Wrong) -> Exchange:
    """Send it as it is. `trial.send` sends JSON, and nothing else."""
    started = time.monotonic()
    status, headers, body, problem = None, {}, None, None
    try:
        answer = httpx.post(
            url + wrong.path,
            content=wrong.body,
            headers={"content-type": wrong.content_type},
            timeout=_ANSWER_SECONDS,
            trust_env=False,
        )
        status, headers, body = answer.status_code, dict(answer.headers), answer.text
    except httpx.HTTPError as error:
        problem = f"{type(error).__name__}: {error}"
    spent = time.monotonic() - started
    return Exchange("POST", url + wrong.path, {"body": wrong.body.decode()}, status, headers, body, problem, spent)


def errors_told(answers: list[tuple[Wrong, Exchange]]) -> Evidence:
    """Check every refusal.

    Args:
        answers: each wrong request with what came of it.
    """
    told = {wrong.name: surface.error_told(wrong.name, exchange, wrong.status) for wrong, exchange in answers}
    statuses = Counter(wrong.status for wrong, _exchange in answers)
    return {"requests": len(answers), "statuses": dict(sorted(statuses.items())), "told": told}


def note(answers: list[tuple[Wrong, Exchange]], sent: Ledger) -> None:
    """Take into the ledger what the frontend has to count of them."""
    for wrong, _exchange in answers:
        if wrong.counted:
            sent.refused(wrong.path, wrong.counted, streamed=b'"stream": true' in wrong.body)


def timeout_told(trial: Trial) -> Evidence:
    """Check that a worker which says nothing for longer than the frontend's deadline costs its client 504, not a wait.

    The prompt is as long as fits, and the simulated engine so slow that its prefill takes longer than the deadline. One
    request is streamed and one is not, at the same time: each lands on a worker of its own.
    """
    workload = trial.workload
    deadline, limit = float(workload["deadline_seconds"]), float(workload["deadline_late_seconds"])
    url = trial.deployment.entry + COMPLETIONS
    long = int(workload["slow_prompt_tokens"])
    stream = trial.stream(
        url, asking.completion(trial, asking.prompt("slow stream", long), 2), total_seconds=_ANSWER_SECONDS
    )
    exchange = trial.send(url, asking.completion(trial, asking.prompt("slow", long), 2), _ANSWER_SECONDS)
    told = stream.result()
    evidence = {
        "deadline_seconds": deadline,
        "prompt_tokens": long,
        "unstreamed": {**surface.error_told("no answer in time", exchange, 504), "seconds": round(exchange.seconds, 3)},
        "streamed": surface.error_event_told("no answer in time", told, 504),
    }
    for name, spent in (("unstreamed", exchange.seconds), ("streamed", told.seconds)):
        if not deadline <= spent <= deadline + limit:
            raise CheckFailed(
                f"504 came after {spent:.2f} s ({name}), and the deadline is {deadline:g} s",
                evidence,
                hint="DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS is the frontend's deadline",
            )
    return evidence


def timeouts_counted(trial: Trial, before: Counts) -> Evidence:
    """Check that the two are counted as what Dynamo has a name for: `response_timeout`, and not `internal`."""
    keys = [counting.key(COMPLETIONS, streamed=streamed, error="response_timeout") for streamed in (False, True)]
    return counting.counted_as(trial, before, Counter(keys))


def gone_client_cancels(trial: Trial, before: Counts) -> Evidence:
    """Check that a client whose own time is up takes its request with it: the worker stops, and it is counted."""
    patience = float(trial.workload["patience_seconds"])
    body = asking.completion(trial, asking.prompt("gone", 32), int(trial.workload["endless_tokens"]))
    exchange = trial.send(trial.deployment.entry + COMPLETIONS, body, patience)
    if exchange.status is not None:
        raise CheckFailed(
            f"HTTP {exchange.status} came within {exchange.seconds:.2f} s, and nobody had to go away",
            {"status": exchange.status, "tokens": body["max_tokens"], "body": (exchange.body or "")[:300]},
            hint="let the case's workload ask for more tokens (endless_tokens)",
            class_="test",
        )
    last: dict[str, Any] = {}

    def over() -> bool:
        after = counting.read(trial)
        last.update(
            cancelled={
                name: one.total(metrics.CANCELLED, dynamo_endpoint=metrics.SERVING)
                for name, one in after.workers.items()
            },
            under_way={
                name: one.total(metrics.UNDER_WAY, dynamo_endpoint=metrics.SERVING)
                for name, one in after.workers.items()
            },
            disconnected=after.frontend.total("dynamo_frontend_disconnected_clients"),
        )
        last["newly_cancelled"] = sum(last["cancelled"].values()) - cancelled
        last["newly_disconnected"] = last["disconnected"] - gone
        return bool(
            last["newly_cancelled"] == 1 and last["newly_disconnected"] == 1 and not any(last["under_way"].values())
        )

    cancelled = sum(one.total(metrics.CANCELLED, dynamo_endpoint=metrics.SERVING) for one in before.workers.values())
    gone = before.frontend.total("dynamo_frontend_disconnected_clients")
    right, seconds = waiting.until(over, _CANCEL_SECONDS)
    evidence = {"patience_seconds": patience, "seconds": seconds, **last}
    if not right:
        raise CheckFailed(
            f"{seconds} s after its client has gone, workers have cancelled {last['newly_cancelled']} requests more, "
            f"{sum(last['under_way'].values())} are under way, and the frontend counts {last['newly_disconnected']} "
            "clients more that went away; 1, 0 and 1 is what it ought to be",
            evidence,
            hint="a worker that goes on computes for nobody: see its log for the request",
        )
    return evidence
