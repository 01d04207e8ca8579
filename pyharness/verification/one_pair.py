"""What has to hold of one prefill and one decode server behind a router, whatever the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import exercise as asking
from pyharness.verification import answer, blame, services, transfer, wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.verification.base import Evidence, Trial
    from pyharness.verification.transfer import Snapshot

    Moved = Callable[[Trial, Snapshot, Snapshot, int | None], Evidence]

CHECKS = (
    "services_are_ours",
    "wheel_in_use",
    "router_ready",
    "answer_correct",
    "kv_cache_moved",
    "transport_used",
)


def verify(trial: Trial, checks: tuple[str, ...] = CHECKS) -> bool:
    """Check what runs, before any request.

    Args:
        trial: whose services.
        checks: all that the test case makes; the first two are made here.

    Returns:
        whether it makes sense to send requests: not to servers that are not ours.
    """
    ours = trial.recorder.run("services_are_ours", lambda: services.services_are_ours(trial))
    trial.recorder.run("wheel_in_use", lambda: wheel.wheel_in_use(trial))
    if not ours:
        trial.skip(checks[2:], "the services that answer are not the ones that were deployed")
    return ours


def router_ready(trial: Trial, checks: tuple[str, ...]) -> bool:
    """Check that whoever asks gets an answer, of one token, which opens the connections. `/readiness` is no proof.

    Args:
        trial: whose servers.
        checks: all that the test case makes; this is the third.

    Returns:
        whether anything answered; otherwise the checks after this one are skipped.
    """
    request = trial.case.asked
    url = trial.deployment.entry + request.path
    done = asking.not_asked(url)

    def one_token() -> Evidence:
        nonlocal done
        done = trial.send(url, trial.engine.one_token(request.body), request.timeout_seconds)
        blame.failed_request(trial, done)
        return {"url": url, "seconds": round(done.seconds, 3), "text": answer.read_answer(done, trial.engine).text}

    if trial.recorder.run("router_ready", one_token) or done.status is not None:
        return True
    trial.skip(checks[3:], "the router gave no answer at all")
    return False


def exercise(trial: Trial, moved: Moved = transfer.kv_cache_moved) -> None:
    """Ask for one token first, which opens the connections, then send the request under test and look what moved.

    Args:
        trial: whose servers.
        moved: the check kv_cache_moved, which goes by what the engine counts.
    """
    request, engine = trial.case.asked, trial.engine
    url = trial.deployment.entry + request.path
    reference = trial.deployment.reference
    if not router_ready(trial, CHECKS):
        return

    before = transfer.snapshot(trial)

    done = asking.not_asked(url)

    def whole_answer() -> Evidence:
        nonlocal done
        done = trial.send(url, request.body, request.timeout_seconds)
        blame.failed_request(trial, done)
        return answer.answer_correct(done, engine, reference.answer, reference.method, request.pattern)

    trial.recorder.run("answer_correct", whole_answer)
    try:
        tokens = engine.answer(done.json()).prompt_tokens
    except ValueError:
        trial.skip(CHECKS[4:], "there was no answer whose transfer could be looked at")
        return
    after = transfer.snapshot_after(trial, before, tokens)
    trial.recorder.run("kv_cache_moved", lambda: moved(trial, before, after, tokens))
    used, evidence = transfer.transport_used(trial, before, after, tokens)
    trial.note_transport(used, evidence)
    requested = trial.deployment.transport.requested
    trial.recorder.run("transport_used", lambda: transfer.transport_as_asked(used, evidence, requested))
