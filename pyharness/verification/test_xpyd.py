"""Verification of test_xpyd: any number of prefill and decode servers behind one router, and all of them work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import fleet, one_pair, transfer, wires

if TYPE_CHECKING:
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "router_ready",
    "answers_correct",
    "every_server_took_part",
    "kv_cache_moved",
    "transport_used",
)


def verify(trial: Trial) -> bool:
    """Check what runs, before any request.

    Returns:
        whether it makes sense to send requests: not to servers that are not ours.
    """
    return one_pair.verify(trial, CHECKS)


def exercise(trial: Trial) -> None:
    """Ask in waves until every server has had a request, then look what moved between which of them."""
    engine = trial.engine
    if not one_pair.router_ready(trial, CHECKS):
        return

    before = transfer.snapshot(trial)
    wave = max(len(trial.deployment.of_kind(kind)) for kind in ("prefill", "decode"))
    answers: list[Exchange] = []
    counters = before.counters
    for _number in range(int(trial.workload["waves"])):
        answers += fleet.ask(trial, wave)
        if any(exchange.status is None for exchange in answers):
            break
        counters = fleet.settled(trial, before.counters, len(answers))
        if not fleet.idle(trial, before.counters, counters):
            break
    after = wires.Snapshot(counters, wires.probe(trial))

    trial.recorder.run("answers_correct", lambda: fleet.answers_correct(trial, answers))
    try:
        tokens = engine.answer(answers[-1].json()).prompt_tokens
    except ValueError:
        trial.skip(CHECKS[4:], "there was no answer whose transfer could be looked at")
        return
    sent = len(answers)
    trial.recorder.run("every_server_took_part", lambda: fleet.every_server_took_part(trial, before, after, sent))
    trial.recorder.run("kv_cache_moved", lambda: fleet.kv_cache_moved(trial, before, after, tokens, sent))
    used, evidence = transfer.transport_used(trial, before, after, tokens, sent)
    trial.note_transport(used, evidence)
    requested = trial.deployment.transport.requested
    trial.recorder.run("transport_used", lambda: transfer.transport_as_asked(used, evidence, requested))
