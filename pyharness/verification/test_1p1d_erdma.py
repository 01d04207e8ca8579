"""Verification of test_1p1d_erdma: one prefill and one decode server behind a router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import answer, blame, services, transfer, wheel
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.case import TestCase
    from pyharness.engines.base import Engine
    from pyharness.exercise import Exchange
    from pyharness.results import TransportUse
    from pyharness.verification.base import Recorder, Subject

    Send = Callable[[str, dict[str, Any], float], Exchange]

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "router_ready",
    "answer_correct",
    "kv_cache_moved",
    "transport_used",
)


def verify(subject: Subject, engine: Engine, recorder: Recorder) -> bool:
    """Check what runs, before any request.

    Returns:
        whether it makes sense to send requests: not to servers that are not ours.
    """
    ours = recorder.run("services_are_ours", lambda: services.services_are_ours(subject, engine))
    recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(subject))
    if not ours:
        for check in CHECKS[2:]:
            recorder.skip(check, "the services that answer are not the ones that were deployed")
    return ours


def exercise_model(
    subject: Subject, case: TestCase, engine: Engine, recorder: Recorder, transport: TransportUse, send: Send
) -> None:
    """Send requests and check what came of them.

    Args:
        subject: what is checked.
        case: the request under test.
        engine: how to read it.
        recorder: takes the results.
        transport: takes which transport was used.
        send: posts a body to a URL within a time, watches the services meanwhile, and keeps the exchange.
    """
    url = subject.deployment.entry + case.request.path
    reference = subject.deployment.reference
    done = exercise.Exchange("POST", url, None, None, {}, None, "not asked", 0.0)

    def one_token() -> Evidence:
        nonlocal done
        done = send(url, engine.one_token(case.request.body), case.request.timeout_seconds)
        blame.failed_request(subject, done)
        return {"url": url, "seconds": round(done.seconds, 3), "text": answer.read_answer(done, engine).text}

    if not recorder.run("router_ready", one_token) and done.status is None:
        for check in CHECKS[3:]:
            recorder.skip(check, "the router gave no answer at all")
        return

    before = transfer.snapshot(subject, engine)

    def whole_answer() -> Evidence:
        nonlocal done
        done = send(url, case.request.body, case.request.timeout_seconds)
        blame.failed_request(subject, done)
        return answer.answer_correct(done, engine, reference.answer, reference.method)

    recorder.run("answer_correct", whole_answer)
    try:
        tokens = engine.answer(done.json()).prompt_tokens
    except ValueError:
        for check in CHECKS[4:]:
            recorder.skip(check, "there was no answer whose transfer could be looked at")
        return
    after = transfer.snapshot_after(subject, engine, before, tokens)
    recorder.run("kv_cache_moved", lambda: transfer.kv_cache_moved(subject, before, after, tokens))
    used, evidence = transfer.transport_used(subject, before, after, tokens)
    _note(transport, used, evidence, recorder.model)
    requested = subject.deployment.transport.requested
    recorder.run("transport_used", lambda: transfer.transport_as_asked(used, evidence, requested))


def _note(transport: TransportUse, used: str | None, evidence: list[dict[str, Any]], model: str | None) -> None:
    """Keep what was used for the run: one transport only if every model used the same."""
    first = not transport.evidence
    transport.used = used if first or transport.used == used else None
    transport.evidence += [{"model": model, **entry} for entry in evidence]


__all__ = ["CHECKS", "CheckFailed", "exercise_model", "verify"]
