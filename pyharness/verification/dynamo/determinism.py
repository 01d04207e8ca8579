"""The same prompt many times: identical output, whatever was in the cache, whoever answered, and whatever happened.

Dynamo's simulated engine makes up another text each time, whatever temperature and seed say. With a trace
(`--response-replay-trace-path`) it gives the tokens that stand there under the key that a request's `nvext.annotations`
has (``output_replay_id:KEY``). So it shows that transport, routing, detokenization and migration alter nothing of
what an engine gives; of an engine's own numerics it shows nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import faults, paths
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, metrics, streams, worker_faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.streamed import Streamed
    from pyharness.verification.base import Trial

SAMPLING = {"temperature": 0, "seed": 7}
_SHORT, _LONG = "short", "long"
# Reads what token ids stand for in a byte-level vocabulary, of which only words are used.
_READ = """
import json
with open({path!r}, encoding="utf-8") as stream:
    vocabulary = json.load(stream)["model"]["vocab"]
words = {{number: word for word, number in vocabulary.items()}}
print(json.dumps({{"words": [words.get(number) for number in {ids!r}]}}))
"""


@dataclass(frozen=True)
class Output:
    """One answer.

    Attributes:
        text: what it says.
        way: how it was asked for: stream or unary.
        worker: id of the worker that decoded it.
        warm: whether its prompt, or a part of it, was in the cache.
    """

    text: str
    way: str
    worker: int | None
    warm: bool


def annotation(key: str) -> str:
    """Return the annotation that asks for the output of that key."""
    return f"output_replay_id:{key}"


def traced(trial: Trial, key: str) -> list[int]:
    """Return the token ids that the trace has under a key.

    Raises:
        KeyError: it has none.
    """
    path = paths.PROJECT / "playbooks" / "traces" / str(trial.workload["replay_trace"])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list({row["request_id"]: row["output_token_ids"] for row in rows}[key])


def words_of(trial: Trial, ids: Sequence[int]) -> list[str]:
    """Return what token ids stand for, by the served model's own vocabulary, which its node has.

    Raises:
        CheckFailed: some are not plain words there.
        NodeError: the node cannot be asked.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    path = f"{trial.deployment.served.path}/tokenizer.json"
    known = trial.nodes.run_python(frontend.node, _READ.format(path=path, ids=list(ids)))["words"]
    # A byte-level vocabulary writes a blank as U+0120.
    words = [str(word).replace("\u0120", " ") for word in known]
    strange = [word for word in words if not word.isascii()]
    if strange:
        raise CheckFailed(
            f"tokens of the trace are no words of the served model's vocabulary: {strange[:3]}",
            {"path": path, "strange": strange[:10]},
            hint="playbooks/traces has to be made of words of the model's tokenizer.json",
            class_="test",
        )
    return words


def ask_many(trial: Trial, key: str, tokens: int, count: int) -> list[Output]:
    """Ask for the same output many times, side by side, every other time as a stream.

    Args:
        trial: whose frontend.
        key: of the trace; empty asks for none.
        tokens: how many to ask for.
        count: how many times.

    Raises:
        CheckFailed: a request is not answered, or a stream is not whole.
    """
    notes = [annotation(key)] if key else []

    def one(number: int) -> Output:
        if number % 2:
            told = streams.begin(trial, "determinism", tokens, annotations=notes, **SAMPLING).result()
            streams.whole(told, tokens)
            return streamed(told)
        extension = {**asking.WHO, **({"annotations": notes} if notes else {})}
        body = asking.completion(trial, streams.prompt(trial, "determinism"), tokens, nvext=extension, **SAMPLING)
        url = trial.deployment.entry + asking.COMPLETIONS
        reply = asking.reply(trial.send(url, body, float(trial.workload["answer_seconds"])))
        return Output(reply.text, "unary", reply.decode, bool(reply.cached_tokens or reply.hit_rate))

    return asking.side_by_side(one, range(count), int(trial.workload["at_once"]))


def streamed(told: Streamed) -> Output:
    """Return the output of a stream."""
    cached = ((told.usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens")
    rates = [(event.content.get("nvext") or {}).get("timing", {}).get("kv_hit_rate") for event in told.events]
    return Output(told.text, "stream", streams.server(told.events), bool(cached or any(rates)))


def identical(outputs: Sequence[Output], expected: str) -> Evidence:
    """Check that all outputs are the one that is expected, letter by letter.

    Raises:
        CheckFailed: some are not.
    """
    other = [output for output in outputs if output.text != expected]
    evidence: Evidence = {
        "requests": len(outputs),
        "identical": len(outputs) - len(other),
        "match_percent": round(100 * (len(outputs) - len(other)) / max(1, len(outputs)), 2),
        "ways": dict(Counter(output.way for output in outputs)),
        "workers": dict(Counter(str(output.worker) for output in outputs)),
        "warm": sum(output.warm for output in outputs),
        "sha256": hashlib.sha256(expected.encode()).hexdigest()[:16],
        "shows": "transport, routing, detokenization and streaming alter nothing; nothing of an engine's numerics",
    }
    if not outputs or other:
        first = other[0] if other else None
        raise CheckFailed(
            f"{len(other)} of {len(outputs)} outputs are not the expected one: "
            + (f"{first.text[:80]!r} by {first.way} of worker {first.worker}" if first else "none was asked for")
            + f", instead of {expected[:80]!r}",
            evidence,
            hint="has each worker the same trace? Its log has `loaded response replay token table`",
        )
    return evidence


def simulated(trial: Trial) -> bool:
    """Return whether the workers are Dynamo's simulated engine."""
    return any("dynamo.mocker" in part for worker in metrics.workers(trial) for part in worker.command)


def output_identical(trial: Trial) -> Evidence:
    """Check that the same prompt has the same output, many times: the trace's, or a real engine's first."""
    ids = traced(trial, _SHORT)
    outputs = ask_many(trial, _SHORT if simulated(trial) else "", len(ids), int(trial.workload["requests"]))
    return identical(outputs, "".join(words_of(trial, ids)) if simulated(trial) else outputs[0].text)


def comparison_can_fail(trial: Trial) -> Evidence:
    """Check that without the trace, and all else the same, outputs differ: that the comparison sees anything at all.

    Raises:
        CheckFailed: they do not.
    """
    outputs = ask_many(trial, "", len(traced(trial, _SHORT)), int(trial.workload["at_once"]))
    distinct = len({output.text for output in outputs})
    evidence: Evidence = {"requests": len(outputs), "distinct": distinct, "sampling": SAMPLING}
    if distinct < 2:
        raise CheckFailed(
            "without the trace all outputs are the same too, so that they prove nothing of the trace's",
            evidence,
            hint="if the simulated engine minds its seed by now, the trace may go",
            class_="test",
        )
    return evidence


def cache_reset(trial: Trial) -> Evidence:
    """Check that the caches are empty after the workers have been started anew, and were not before.

    1.6.1's frontend and workers offer no call to clear a cache: POST /clear_kv_blocks gives 404.
    """
    workers, load = metrics.workers(trial), trial.workload
    tokens, limit = len(traced(trial, _SHORT)), float(load["recovery_seconds"])
    warm = ask_many(trial, _SHORT, tokens, 2 * len(workers))
    with ExitStack() as stack:
        holds = [
            stack.enter_context(
                faults.injected(trial, faults.Terminate(worker, float(load["drain_seconds"])), limit_seconds=limit)
            )
            for worker in workers
        ]
    all_answer, waited = waiting.until(lambda: _all_answer(trial), limit)
    if not all_answer:
        raise CheckFailed(
            f"the workers were started anew, and do not all answer {waited:g} s later",
            hint="see the frontend's log for the workers that it knows",
        )
    cold = ask_many(trial, _SHORT, tokens, 1)
    return {
        **emptied(warm, cold),
        "started_anew": [hold.evidence["target"] for hold in holds],
        "all_answer_after_seconds": waited,
    }


def emptied(warm: Sequence[Output], cold: Sequence[Output]) -> Evidence:
    """Check that prompts were in a cache before a reset, and none is after it.

    Raises:
        CheckFailed: none was, or one is.
    """
    before, after = (sum(output.warm for output in outputs) for outputs in (warm, cold))
    evidence: Evidence = {"warm_before": before, "asked_before": len(warm), "warm_after": after}
    if not before or after:
        raise CheckFailed(
            f"{before} of {len(warm)} prompts were in a cache before the reset, and {after} of {len(cold)} after it",
            evidence,
            hint="nothing would follow from outputs that are the same with the same caches",
        )
    return evidence


def _all_answer(trial: Trial) -> bool:
    try:
        return all(worker_faults.answers(trial, worker) for worker in metrics.workers(trial))
    except CheckFailed:
        return False


def migrated(told: Streamed, pieces: Sequence[str]) -> Evidence:
    """Check that a stream that moved to another worker has each token that the engines gave, once and in order.

    The engine that takes over begins the trace anew, so the output is the trace up to some token, and then all of it.

    Args:
        told: the stream.
        pieces: the trace's tokens, as text.

    Raises:
        CheckFailed: it is something else.
    """
    got = [event.text for event in told.content_events]
    before = len(got) - len(pieces)
    expected = [*pieces[: max(0, before)], *pieces]
    evidence: Evidence = {
        **told.evidence(),
        "tokens": len(got),
        "tokens_before_the_migration": before,
        "shows": "no token is lost, doubled or altered by a migration; nothing of an engine's numerics",
    }
    if told.ending != "done" or told.error or not 0 < before <= len(pieces) or got != expected:
        place = next((at for at, (one, other) in enumerate(zip(got, expected, strict=False)) if one != other), None)
        raise CheckFailed(
            f"the output that was migrated is not the trace up to a token and then the trace: {len(got)} tokens, "
            f"{told.ending}, {told.error or 'no error'}"
            + (f", token {place} is {got[place]!r} instead of {expected[place]!r}" if place is not None else ""),
            evidence,
            hint="the stream, event by event, is in curl_response.log",
        )
    return evidence


def output_survives_migration(trial: Trial) -> Evidence:
    """Check that an output that moves to another worker in its middle has each token once and in order."""
    ids = traced(trial, _LONG)
    pieces = words_of(trial, ids)
    stream = streams.begin(trial, "migrated", len(ids), annotations=[annotation(_LONG)], **SAMPLING)
    victim = streams.under_way(trial, stream)
    before = worker_faults.migrations(trial)
    with faults.injected(
        trial,
        faults.Kill(victim),
        limit_seconds=float(trial.workload["recovery_seconds"]),
        recovered=lambda: worker_faults.works(trial, victim, stream),
    ) as hold:
        told = stream.result()
        moved = worker_faults.migrations(trial) - before
        if not moved:
            raise faults.FaultFailed(f"{victim.name} was killed, and the frontend has moved no stream", told.evidence())
        evidence: dict[str, Any] = migrated(told, pieces)
        evidence["gap_milliseconds"] = round(1000 * streams.gap_of(told, hold.injected_at))
    return {**evidence, "fault": hold.evidence}
