"""Agents: programs of ours beside Mooncake that do over HTTP what they are told (roles transfer_agent, store_client).

What they are told to keep or to move follows from a seed, so that the harness knows by itself what has to come back.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pyharness.verification import blame, waiting
from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_ANSWER_SECONDS = 60.0
_ENDING_SECONDS = 1.0


def content(seed: str, size: int) -> bytes:
    """Return the bytes that an agent makes of a seed: SHAKE-128 (FIPS 202) of it, `size` bytes long."""
    return hashlib.shake_128(seed.encode()).digest(size)


def digest(part: bytes | memoryview) -> str:
    """Return the SHA-256 of some bytes, as agents tell it."""
    return hashlib.sha256(part).hexdigest()


def ask(trial: Trial, agent: Service, verb: str, asked: dict[str, Any], timeout: float = _ANSWER_SECONDS) -> Any:
    """Have an agent do something.

    Args:
        trial: whose agent.
        agent: which.
        verb: what, such as hash.
        asked: with what.
        timeout: seconds for the whole.

    Returns:
        its answer, a JSON object.

    Raises:
        CheckFailed: it gave none: it has ended, refuses the request, or does not answer in time.
        NodeError: its node cannot be asked.
    """
    done = trial.send(f"{agent.url}/{verb}", asked, timeout)
    if done.status is None:
        # Its socket closes a moment before the kernel tells of its end.
        waiting.until(lambda: trial.nodes.ended([agent]), _ENDING_SECONDS)
    blame.failed_request(trial, done)
    try:
        answer = done.json()
    except ValueError:
        answer = {}
    if done.status == 200:
        return answer
    # 400: it understood and will not. That, and everything else but silence, is the asker's or its own mistake.
    reason = done.problem or answer.get("error") or f"HTTP {done.status}"
    raise CheckFailed(
        f"{agent.name} on {agent.node} did not do {verb}: {reason}",
        {"asked": asked, "exchange": done.transcript()},
        hint=f"read {agent.log} on {agent.node}; a copy is in the results' logs folder",
        class_="product" if done.status is None else "test",
    )
