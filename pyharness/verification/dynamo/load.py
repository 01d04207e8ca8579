"""Many requests at a time, each told of by who answered it and how long it took.

They are not kept one by one, as `trial.send` keeps exchanges: what they show is in their number.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx

from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import asking

if TYPE_CHECKING:
    from types import TracebackType

    from pyharness.verification.base import Trial


@dataclass(frozen=True)
class Sent:
    """One request of many.

    Attributes:
        at: when it was sent, on the monotonic clock.
        seconds: how long it took.
        worker: id of the worker that decoded it; None where it was not answered, or not told.
        problem: why it was not answered; None where it was.
    """

    at: float
    seconds: float
    worker: int | None
    problem: str | None


class Client:
    """Sends prompts to /v1/completions, over connections that it keeps.

    Args:
        trial: whose frontend.
        connections: how many at most.
        tokens: of each answer.
    """

    def __init__(self, trial: Trial, connections: int, tokens: int) -> None:
        self._url = trial.deployment.entry + asking.COMPLETIONS
        self._body = asking.completion(trial, [], tokens, nvext=asking.WHO)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # No proxy: nodes are asked directly, whatever the environment says of the outside world.
        self._client = httpx.Client(trust_env=False, timeout=float(trial.workload["answer_seconds"]), limits=limits)

    def send(self, prompt: list[int]) -> Sent:
        """Send one prompt."""
        started, worker, problem = time.monotonic(), None, None
        try:
            answer = self._client.post(self._url, json={**self._body, "prompt": prompt})
            if answer.status_code == httpx.codes.OK:
                worker = _who(answer.json())
            else:
                problem = f"HTTP {answer.status_code}: {answer.text[:200]}"
        except (httpx.HTTPError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Sent(started, time.monotonic() - started, worker, problem)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def burst(trial: Trial, prompts: list[list[int]], at_once: int, tokens: int) -> list[Sent]:
    """Send prompts, so many at a time, and wait for all."""
    client = Client(trial, at_once, tokens)
    try:
        return asking.side_by_side(client.send, prompts, at_once)
    finally:
        client.close()


class Steady:
    """Clients that ask one thing after the other for as long as the block lasts.

    Args:
        trial: whose frontend.
        clients: how many.
        prompt_tokens, tokens: length of each prompt, and of each answer.
    """

    def __init__(self, trial: Trial, clients: int, prompt_tokens: int, tokens: int) -> None:
        self.sent: list[Sent] = []
        self._client = Client(trial, clients, tokens)
        self._prompt_tokens = prompt_tokens
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let each finish what it has asked, and no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _ask(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            self.sent.append(self._client.send(asking.prompt(f"steady {number} {count}", self._prompt_tokens)))
            count += 1

    def since(self, moment: float) -> list[Sent]:
        """Return those sent after a moment of the monotonic clock that are over."""
        return [one for one in list(self.sent) if one.at >= moment]


def by_worker(sent: list[Sent], names: dict[int, str]) -> Counter[str]:
    """Return how many each worker has answered."""
    return Counter(names.get(one.worker or 0, f"unknown {one.worker}") for one in sent if one.problem is None)


def all_answered(sent: list[Sent]) -> dict[str, Any]:
    """Return figures of requests that were all answered.

    Raises:
        CheckFailed: one was not.
    """
    failed = [one for one in sent if one.problem]
    if failed or not sent:
        raise CheckFailed(
            f"{len(failed)} of {len(sent)} requests failed, the first: {failed[0].problem if failed else 'none sent'}",
            {"requests": len(sent), "failed": [one.problem for one in failed[:5]]},
            hint="see the frontend's log for what it says of them",
        )
    times = sorted(one.seconds for one in sent)
    return {
        "requests": len(sent),
        "failed": 0,
        "median_seconds": round(times[len(times) // 2], 3),
        "longest_seconds": round(times[-1], 3),
    }


def _who(document: Any) -> int | None:
    found = ((document.get("nvext") or {}).get("worker_id") or {}).get("decode_worker_id")
    return int(found) if found is not None else None
