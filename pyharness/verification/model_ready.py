"""A model is there once it has answered: three steps, each told with the seconds that it took.

What a server says of its own health is not asked. Discovery has to count the instances, the list has to name the
model, and a request for one token has to be answered. The number of attempts and their time-outs are those of Dynamo's
own tests (`wait_for_model_availability` in tests/utils/client.py): the first request of a real model may compile for a
minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification import services, waiting
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

_ATTEMPT_SECONDS = (60.0, 60.0, 45.0, 30.0, 30.0, 20.0, 20.0, 15.0, 15.0, 15.0)
_FURTHER_ATTEMPTS_SECONDS = 10.0
ATTEMPTS = 15
_PAUSE_SECONDS = 0.5
_LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Wanted:
    """What has to be there.

    Attributes:
        instances: how many of them discovery has to know.
        discovered: returns how many it knows.
        frontend: URL of the service that lists and serves the model.
        path: of the request.
        body: of the request, for one token.
        seconds: how long each of the first two steps may take.
    """

    instances: int
    discovered: Callable[[], int]
    frontend: str
    path: str
    body: dict[str, Any]
    seconds: float


def attempt_seconds(number: int) -> float:
    """Return the time-out of an attempt; the first is number 1."""
    return _ATTEMPT_SECONDS[number - 1] if number <= len(_ATTEMPT_SECONDS) else _FURTHER_ATTEMPTS_SECONDS


def model_available(trial: Trial, wanted: Wanted) -> Evidence:
    """Wait until the model has answered.

    Raises:
        CheckFailed: a step was not taken in its time; or a service has ended, with the last 20 lines of its log.
        NodeError: a node cannot be asked.
    """
    name = trial.deployment.served.name
    count, first = waiting.until(lambda: _enough(trial, wanted), wanted.seconds)
    if not count:
        raise CheckFailed(
            f"discovery knows {wanted.discovered()} instances after {first} s, and {wanted.instances} were deployed",
            {"instances": wanted.discovered(), "wanted": wanted.instances},
            hint="a worker that cannot register says so in its log",
        )
    names, second = waiting.until(lambda: _listed(trial, wanted, name), wanted.seconds)
    if not names:
        raise CheckFailed(
            f"{name} is not listed after {second} s, with {count} instances: {_said(trial, wanted)}",
            {"instances": count, "seconds": second},
            hint="the frontend lists a model when it has a worker of each kind that it needs: see its log",
        )
    attempts = _answered(trial, wanted)
    return {
        "instances": {"wanted": wanted.instances, "known": count, "seconds": first},
        "listed": {"models": names, "seconds": second},
        "answered": {"attempts": attempts, "seconds": round(sum(one["seconds"] for one in attempts), 3)},
    }


def _enough(trial: Trial, wanted: Wanted) -> int:
    _alive(trial)
    count = wanted.discovered()
    # More than were deployed are dead ones, to whom requests would go too.
    return count if count == wanted.instances else 0


def _listed(trial: Trial, wanted: Wanted, name: str) -> list[str]:
    _alive(trial)
    exchange = exercise.get(wanted.frontend + trial.engine.models_path, _LOOK_SECONDS)
    try:
        names = trial.engine.served_models(exchange.json())
    except ValueError:
        return []
    return names if name in names else []


def _said(trial: Trial, wanted: Wanted) -> str:
    exchange = exercise.get(wanted.frontend + trial.engine.models_path, _LOOK_SECONDS)
    return exchange.problem or f"HTTP {exchange.status}: {(exchange.body or '')[:300]}"


def _answered(trial: Trial, wanted: Wanted) -> list[dict[str, Any]]:
    attempts: list[dict[str, Any]] = []
    for number in range(1, ATTEMPTS + 1):
        exchange = trial.send(wanted.frontend + wanted.path, wanted.body, attempt_seconds(number))
        problem = _problem(trial, exchange)
        told = {"limit": attempt_seconds(number), "seconds": round(exchange.seconds, 3), "status": exchange.status}
        attempts.append(told if problem is None else {**told, "said": problem})
        if problem is None:
            return attempts
        # A service that dies meanwhile ends the waiting at once.
        waiting.until(lambda: _alive(trial), _PAUSE_SECONDS)
    raise CheckFailed(
        f"not one of {ATTEMPTS} requests for one token was answered; the last: {attempts[-1]['said']}",
        {"attempts": attempts},
        hint="the model is listed and does not serve: see the frontend's log, and the workers'",
    )


def _problem(trial: Trial, exchange: Exchange) -> str | None:
    if exchange.status != 200 or exchange.problem:
        return exchange.problem or f"HTTP {exchange.status}: {(exchange.body or '')[:300]}"
    try:
        trial.engine.answer(exchange.json())
    except ValueError as error:
        return str(error)
    return None


def _alive(trial: Trial) -> None:
    ended = trial.nodes.ended(trial.deployment.running)
    if ended:
        raise services.died(trial, ended[0])
