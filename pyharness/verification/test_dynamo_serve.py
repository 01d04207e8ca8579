"""Verification of test_dynamo_serve: Dynamo's OpenAI surface, whatever its discovery, request plane and event plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness import exercise as asking_directly
from pyharness.verification.dynamo import asking, counting, deployed, errors, surface
from pyharness.verification.dynamo.asking import CHAT, COMPLETIONS
from pyharness.verification.dynamo.counting import Ledger
from pyharness.verification.dynamo.surface import Expected

if TYPE_CHECKING:
    from pyharness.exercise import Exchange
    from pyharness.streamed import Streamed
    from pyharness.verification.base import Evidence, Trial

CHECKS = (
    *deployed.CHECKS,
    "at_rest",
    "models_listed",
    "answers_well_formed",
    "streams_well_formed",
    "streamed_as_unstreamed",
    "metrics_present",
    "errors_told",
    "errors_wrapped",
    "overlong_refused",
    "requests_counted",
    "gone_client_cancels",
    "timeout_told",
    "timeouts_counted",
    "well_afterwards",
)
_TEXT = "Who keeps the light when the keeper sleeps?"


def verify(trial: Trial) -> bool:
    """Check what runs, and wait until the model answers. Returns whether it does."""
    return deployed.ready(trial, CHECKS)


def exercise(trial: Trial) -> None:
    """Ask in every way, rightly and wrongly, and compare with what was counted."""
    run, entry = trial.recorder.run, trial.deployment.entry
    counts: list[counting.Counts] = []

    def before() -> counting.Counts:
        """Return what was counted before a check; inside of one, so that what goes wrong is its failure."""
        counts.append(counting.at_rest(trial))
        return counts[-1]

    if not run("at_rest", lambda: {"requests": before().requests.total()}):
        trial.skip(CHECKS[CHECKS.index("at_rest") + 1 :], "nobody knows what was counted before")
        return
    sent = Ledger()
    listed = asking_directly.get(entry + trial.engine.models_path, 10.0)
    run("models_listed", lambda: surface.models_listed(listed, trial.deployment.served.name))
    _answers(trial, sent)
    # Some are there only once there has been something to count.
    run("metrics_present", lambda: counting.metrics_present(counting.read(trial)))
    _errors(trial, sent)
    run("requests_counted", lambda: counting.requests_counted(trial, counts[0], sent))
    run("gone_client_cancels", lambda: errors.gone_client_cancels(trial, before()))

    def timed_out() -> Evidence:
        before()
        return errors.timeout_told(trial)

    # A real engine does not take longer than the deadline for any prompt that fits.
    if deployed.simulated(trial):
        run("timeout_told", timed_out)
        run("timeouts_counted", lambda: errors.timeouts_counted(trial, counts[-1]))
    run("well_afterwards", lambda: deployed.every_worker_answers(trial))


def _answers(trial: Trial, sent: Ledger) -> None:
    """Ask each endpoint, at once and streamed, with counts and without, and for a replayed answer; all at a time."""
    tokens, name = int(trial.workload["answer_tokens"]), trial.deployment.served.name
    prompt = asking.prompt("answers", int(trial.workload["prompt_tokens"]))
    bodies = {CHAT: asking.chat(trial, _TEXT, tokens), COMPLETIONS: asking.completion(trial, prompt, tokens)}
    expected = {CHAT: Expected(CHAT, name, None, tokens), COMPLETIONS: Expected(COMPLETIONS, name, len(prompt), tokens)}
    # A simulated engine says the same twice only from its trace, a real one at temperature 0.
    replayed = {
        path: {**bodies[path], "temperature": 0, "nvext": {"annotations": [f"output_replay_id:{key}"]}}
        for path, key in _REPLAYED
    }
    with_counts = {"stream_options": {"include_usage": True}}

    streams = {
        (path, kind): trial.stream(trial.deployment.entry + path, body, total_seconds=_seconds(trial))
        for path in bodies
        for kind, body in (
            ("plain", bodies[path]),
            ("counts", {**bodies[path], **with_counts}),
            ("replayed", {**replayed[path], **with_counts}),
        )
    }
    asked = [(path, kind) for path in bodies for kind in ("plain", "replayed")]
    done = asking.side_by_side(
        lambda one: _send(trial, one[0], bodies if one[1] == "plain" else replayed), asked, len(asked)
    )
    answers = dict(zip(asked, done, strict=True))
    told = {which: stream.result() for which, stream in streams.items()}

    def well_formed() -> Evidence:
        return {path: surface.answer_well_formed(answers[path, "plain"], expected[path]) for path in bodies}

    def streamed() -> Evidence:
        return {
            f"{path} {kind}": surface.stream_well_formed(told[path, kind], expected[path], usage_asked=kind == "counts")
            for path in bodies
            for kind in ("plain", "counts")
        }

    def as_unstreamed() -> Evidence:
        return {
            path: surface.same_text(answers[path, "replayed"], told[path, "replayed"], expected[path])
            for path in bodies
        }

    trial.recorder.run("answers_well_formed", well_formed)
    trial.recorder.run("streams_well_formed", streamed)
    trial.recorder.run("streamed_as_unstreamed", as_unstreamed)
    _note(sent, answers, told)


_REPLAYED = ((CHAT, "chat"), (COMPLETIONS, "completion"))


def _seconds(trial: Trial) -> float:
    return float(trial.workload["answer_seconds"])


def _send(trial: Trial, path: str, bodies: dict[str, dict[str, Any]]) -> Exchange:
    return trial.send(trial.deployment.entry + path, bodies[path], _seconds(trial))


def _note(sent: Ledger, answers: dict[tuple[str, str], Exchange], told: dict[tuple[str, str], Streamed]) -> None:
    """Take into the ledger what was answered. A stream without counts has those of its like: the prompt is the same."""
    usages: dict[tuple[str, str], dict[str, Any]] = {}
    for which, exchange in answers.items():
        if not asking.problem(exchange):
            usages[which] = asking.reply(exchange).usage
            sent.answered(which[0], usages[which], streamed=False)
    for which, stream in told.items():
        usage = stream.usage or usages.get((which[0], which[1]))
        if stream.complete and usage:
            sent.answered(which[0], usage, streamed=True)


def _errors(trial: Trial, sent: Ledger) -> None:
    entry, room = trial.deployment.entry, int(trial.workload["max_model_len"])
    wrong = errors.wrong_requests(trial.deployment.served.name)
    done = asking.side_by_side(lambda one: (one, errors.post(entry, one)), wrong, 4)
    errors.note(done, sent)
    trial.recorder.run("errors_told", lambda: errors.errors_told(done))
    trial.recorder.run("errors_wrapped", lambda: surface.errors_wrapped([exchange for _wrong, exchange in done]))

    overlong = asking.completion(trial, asking.prompt("overlong", room + 1), 2)
    stream = trial.stream(entry + COMPLETIONS, overlong, total_seconds=_seconds(trial))
    exchange = trial.send(entry + COMPLETIONS, overlong, _seconds(trial))
    told = stream.result()

    def refused() -> Evidence:
        return surface.overlong_refused(exchange, told, room + 1, room)

    if trial.recorder.run("overlong_refused", refused):
        kind, by_worker = "validation", False
    else:
        kind, by_worker = "internal", True
    for streamed in (False, True):
        sent.refused(COMPLETIONS, kind, streamed=streamed, by_worker=by_worker)


__all__ = ["CHECKS", "exercise", "verify"]
