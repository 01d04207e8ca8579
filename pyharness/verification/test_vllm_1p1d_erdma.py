"""Verification of test_vllm_1p1d_erdma: one prefill and one decode server of vLLM behind a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import exercise as asking
from pyharness.verification import answer, blame, services, tokens, transfer, wheel

if TYPE_CHECKING:
    from pyharness.verification.base import Evidence, Trial

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "router_ready",
    "answer_correct",
    "kv_cache_moved",
    "transport_used",
)


def verify(trial: Trial) -> bool:
    """Check what runs, before any request.

    Returns:
        whether it makes sense to send requests: not to servers that are not ours.
    """
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial))
    if not ours:
        trial.skip(CHECKS[2:], "the services that answer are not the ones that were deployed")
    return ours


def exercise(trial: Trial) -> None:
    """Ask for one token first, which opens the connections, then send the request under test and look what moved."""
    request, engine = trial.case.asked, trial.engine
    url = trial.deployment.entry + request.path
    reference = trial.deployment.reference
    done = asking.not_asked(url)

    def one_token() -> Evidence:
        nonlocal done
        done = trial.send(url, engine.one_token(request.body), request.timeout_seconds)
        blame.failed_request(trial, done)
        return {"url": url, "seconds": round(done.seconds, 3), "text": answer.read_answer(done, engine).text}

    if not trial.recorder.run("router_ready", one_token) and done.status is None:
        trial.skip(CHECKS[3:], "the proxy gave no answer at all")
        return

    before = transfer.snapshot(trial)

    def whole_answer() -> Evidence:
        nonlocal done
        done = trial.send(url, request.body, request.timeout_seconds)
        blame.failed_request(trial, done)
        return answer.answer_correct(done, engine, reference.answer, reference.method, request.pattern)

    trial.recorder.run("answer_correct", whole_answer)
    try:
        prompt = engine.answer(done.json()).prompt_tokens
    except ValueError:
        trial.skip(CHECKS[4:], "there was no answer whose transfer could be looked at")
        return
    after = transfer.snapshot_after(trial, before, prompt)
    trial.recorder.run("kv_cache_moved", lambda: tokens.kv_cache_moved(trial, before, after, prompt))
    used, evidence = transfer.transport_used(trial, before, after, prompt)
    trial.note_transport(used, evidence)
    requested = trial.deployment.transport.requested
    trial.recorder.run("transport_used", lambda: transfer.transport_as_asked(used, evidence, requested))
