"""Requests are split between a prefill worker and a decode worker, or answered by decode alone, as deployed.

What shows it: each worker counts the requests that it takes; the prefill worker publishes the blocks of the prompt that
it has computed, and a decode worker publishes none; the answer names both workers. The router counts a prompt's tokens
by phase. The simulated engine counts no bytes of a transfer: there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import waiting
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import asking, deployed, metrics, surface
from pyharness.verification.dynamo.index import Follower

if TYPE_CHECKING:
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial
    from pyharness.verification.dynamo.asking import Reply

# By the phase of a request; only a router by KV cache counts them.
_PHASE_TOKENS = "dynamo_component_router_input_sequence_tokens_sum"
_LATE_SECONDS = 3.0
_HINT = "see the frontend's log for the workers of each type that it knows, and for how it routed the request"


@dataclass(frozen=True)
class Moment:
    """What was counted at one moment: requests taken and blocks stored by worker, the router's tokens by phase."""

    taken: dict[str, int]
    stored: dict[str, int]
    phases: dict[str, int]

    def since(self, before: Moment) -> dict[str, dict[str, int]]:
        """Return what has been added since."""
        return {
            "taken": {name: count - before.taken.get(name, 0) for name, count in self.taken.items()},
            "stored_blocks": {name: count - before.stored.get(name, 0) for name, count in self.stored.items()},
            "router_tokens": {name: count - before.phases.get(name, 0) for name, count in self.phases.items()},
        }


def look(trial: Trial, followers: list[Follower]) -> Moment:
    """Read what all have counted.

    Raises:
        CheckFailed: one does not tell.
    """
    (frontend,) = trial.deployment.of_kind("frontend")
    phases = metrics.read(frontend).by(_PHASE_TOKENS, "phase")
    return Moment(
        metrics.taken(trial),
        {one.service.name: one.catch_up().stored for one in followers},
        {labels[0]: round(value) for labels, value in phases.items()},
    )


def followers(trial: Trial) -> list[Follower]:
    """Return who is asked for events: a decode worker publishes none, and has no port for it."""
    return [Follower(service) for service in metrics.workers(trial) if "kv_replay" in service.endpoints]


@dataclass(frozen=True)
class Asked:
    """Requests that were asked, and what was counted for them.

    Attributes:
        prompts: lengths in tokens.
        new_blocks: whole blocks of them that no prefill worker had before.
        replies: what was answered.
        counted: what was added meanwhile.
    """

    prompts: list[int]
    new_blocks: int
    replies: list[Reply]
    counted: dict[str, dict[str, int]]


def ask(trial: Trial, prompts: list[list[int]], following: list[Follower]) -> Asked:
    """Ask some prompts, all at once, and wait until what they leave has been counted, or has had the time to be.

    Args:
        trial: whose frontend.
        prompts: what to ask; no two with the same beginning.
        following: who publishes events.

    Raises:
        CheckFailed: one was not answered.
    """
    before, size = look(trial, following), int(trial.workload["block_size"])
    held = [max((one.held.prefix(prompt, size) for one in following), default=0) for prompt in prompts]
    new = sum(len(prompt) // size for prompt in prompts) - sum(held)
    tokens = int(trial.workload["answer_tokens"])
    done = asking.side_by_side(lambda prompt: asking.ask(trial, prompt, tokens), prompts, len(prompts))
    replies = asking.replies(done)
    counted: dict[str, dict[str, int]] = {}

    def told() -> bool:
        counted.update(look(trial, following).since(before))
        return sum(counted["stored_blocks"].values()) >= new

    # Where decode answers alone there is nothing to wait for but what ought not to come.
    waiting.until(told, _LATE_SECONDS if any(one.prefill is not None for one in replies) else 0.0)
    return Asked([len(prompt) for prompt in prompts], new, replies, counted)


def split(trial: Trial, asked: Asked, names: dict[int, str]) -> Evidence:
    """Check that prefill computed each prompt, and decode did not.

    Args:
        trial: whose workers.
        asked: what was asked, and counted for it.
        names: by id the workers' names.
    """
    number, blocks = len(asked.prompts), asked.new_blocks
    kinds = {service.name: service.kind for service in metrics.workers(trial)}
    evidence = _evidence(asked, names)
    of_kind = _by_kind(asked.counted, kinds)
    evidence["new_blocks"], evidence["by_kind"] = blocks, of_kind
    wrong = []
    if of_kind["prefill"]["taken"] != number or of_kind["decode"]["taken"] != number:
        wrong.append(
            f"prefill took {of_kind['prefill']['taken']} and decode {of_kind['decode']['taken']} of {number} requests, "
            "and each takes all"
        )
    if of_kind["prefill"]["stored_blocks"] != blocks:
        wrong.append(
            f"prefill stored {of_kind['prefill']['stored_blocks']} blocks, and the prompts have {blocks} that are new"
        )
    if any(kinds.get(name) != "prefill" or kinds.get(to) != "decode" for name, to in _routes(asked, names)):
        wrong.append(f"answers name {sorted(set(_routes(asked, names)))} for prefill and decode")
    # A real decode worker counts what it took from prefill as cached; a simulated one takes nothing.
    if deployed.simulated(trial) and any(one.cached_tokens for one in asked.replies):
        wrong.append(f"decode had {sum(one.cached_tokens for one in asked.replies)} tokens in a cache of its own")
    phases = asked.counted["router_tokens"]
    if phases and phases.get("prefill") != sum(asked.prompts):
        wrong.append(
            f"the router sent {phases.get('prefill', 0)} tokens to prefill, and the prompts have {sum(asked.prompts)}"
        )
    if wrong:
        raise CheckFailed(f"requests were not split: {'; '.join(wrong)}", evidence, hint=_HINT)
    return evidence


def local(trial: Trial, asked: Asked, names: dict[int, str]) -> Evidence:
    """Check that decode answered alone, with no request and no block on a prefill worker."""
    kinds = {service.name: service.kind for service in metrics.workers(trial)}
    evidence = _evidence(asked, names)
    of_kind = _by_kind(asked.counted, kinds)
    evidence["by_kind"] = of_kind
    number = len(asked.prompts)
    if of_kind["prefill"]["taken"] or of_kind["prefill"]["stored_blocks"] or of_kind["decode"]["taken"] != number:
        raise CheckFailed(
            f"of {number} requests that decode was to answer alone, prefill took {of_kind['prefill']['taken']}, and "
            f"decode {of_kind['decode']['taken']}",
            evidence,
            hint="whether a prompt is short is judged by what decode has not in its cache: see the frontend's "
            "--router-conditional-disagg-config",
        )
    named = {name for name, _to in _routes(asked, names)} - {"nobody"}
    if any(kinds.get(name) == "prefill" for name in named):
        raise CheckFailed(f"answers name {sorted(named)} for their prefill, who took nothing", evidence, hint=_HINT)
    return evidence


def listed(models: Exchange) -> list[str]:
    """Return the models that /v1/models lists; a word for what it says instead."""
    try:
        return [entry["id"] for entry in models.json()["data"]]
    except (ValueError, TypeError, LookupError):
        return [models.problem or f"HTTP {models.status}"]


def not_served(exchange: Exchange, models: Exchange) -> Evidence:
    """Check that without a prefill worker there is no model: the list is empty, and a request is told 503."""
    told = surface.error_told("without a prefill worker", exchange, 503)
    names = listed(models)
    if names:
        raise CheckFailed(
            f"/v1/models lists {names}, and there is nobody who could prefill",
            {"models": names, "request": told},
            hint=_HINT,
        )
    return {"models": names, "request": told, "seconds": round(exchange.seconds, 3)}


def no_more_served(trial: Trial) -> Evidence:
    """Check that a frontend whose prefill worker has gone comes to serve nothing, as before it came.

    Raises:
        CheckFailed: it still lists the model when the time is up, or answers, or says something else than 503.
    """
    limit = float(trial.workload["forgotten_seconds"])
    decode = len(metrics.workers(trial, ("decode",)))
    _known, seconds = waiting.until(lambda: len(deployed.instances(trial)) <= decode, limit)
    answer, models, _health = decode_alone(trial)
    return {**not_served(answer, models), "forgotten_after_seconds": seconds}


def health_tells(exchange: Exchange, models: list[str]) -> Evidence:
    """Check that a frontend without a model does not call itself healthy: /health is what a load balancer asks."""
    try:
        status = exchange.json().get("status")
    except (ValueError, AttributeError):
        status = None
    evidence = {"status": exchange.status, "says": status, "models": models}
    if exchange.status == 200 and not models:
        raise CheckFailed(
            f"/health answers HTTP 200 and {status!r} with {len(models)} models",
            evidence,
            hint="a load balancer sends requests to a frontend that can answer none",
        )
    return evidence


def decode_alone(trial: Trial) -> tuple[Exchange, Exchange, Exchange]:
    """Ask a frontend that knows a decode worker only: for an answer, for its models, for its health.

    Raises:
        CheckFailed: it does not know the decode worker, so that what it says proves nothing.
    """
    decode = len(metrics.workers(trial, ("decode",)))
    known, seconds = waiting.until(
        lambda: len(deployed.instances(trial)) >= decode, float(trial.workload["discovery_seconds"])
    )
    if not known:
        raise CheckFailed(
            f"after {seconds} s the frontend knows {len(deployed.instances(trial))} of {decode} decode workers",
            {"instances": deployed.instances(trial)},
            hint="see the frontend's log",
        )
    entry, limit = trial.deployment.entry, float(trial.workload["answer_seconds"])
    answer = trial.send(entry + asking.CHAT, asking.chat(trial, "Is anybody there?", 2), limit)
    models = exercise.get(entry + trial.engine.models_path, limit)
    return answer, models, exercise.get(f"{entry}/health", limit)


def _by_kind(counted: dict[str, dict[str, int]], kinds: dict[str, str]) -> dict[str, dict[str, int]]:
    return {
        kind: {
            what: sum(count for name, count in counted[what].items() if kinds.get(name) == kind)
            for what in ("taken", "stored_blocks")
        }
        for kind in ("prefill", "decode")
    }


def _routes(asked: Asked, names: dict[int, str]) -> list[tuple[str, str]]:
    """Return for each answer who prefilled and who decoded, as it says."""

    def name(worker: int | None) -> str:
        return "nobody" if worker is None else names.get(worker, f"unknown {worker}")

    return [(name(one.prefill), name(one.decode)) for one in asked.replies]


def _evidence(asked: Asked, names: dict[int, str]) -> dict[str, Any]:
    return {
        "requests": len(asked.prompts),
        "prompt_tokens": asked.prompts,
        "counted": asked.counted,
        "routes": [f"{prefill} -> {decode}" for prefill, decode in sorted(set(_routes(asked, names)))],
        "cached_tokens": [one.cached_tokens for one in asked.replies],
        "hit_rates": [one.hit_rate for one in asked.replies],
    }
