"""Requests of a trial: its services are watched meanwhile, and each exchange is kept."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness import exercise, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyharness.deployment import Service
    from pyharness.exercise import Exchange
    from pyharness.interrupt import Interrupt
    from pyharness.streamed import Streamed
    from pyharness.streaming import Stream
    from pyharness.verification.node_probe import Nodes

# How long a node may not answer before no answer to a request is waited for any more.
SILENT_SECONDS = 10
# Of many streams at once one looks at the services for all.
_LOOK_SECONDS = 1.0


@dataclass
class _Look:
    """When somebody has last looked whether there is hope, and what was seen."""

    at: float = 0.0
    seen: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Sender:
    """Posts bodies, and gives up when there can be no answer any more.

    Attributes:
        nodes: where the services run.
        services: whose end means that there will be no answer.
        log: file that takes each exchange as a person reads it.
        interrupt: whether the run is to end.
        answered: told of each exchange.
        streamed: told of each stream that is over, in the stream's own thread.
    """

    nodes: Nodes
    services: Sequence[Service]
    log: Path
    interrupt: Interrupt
    answered: Callable[[Exchange], None]
    streamed: Callable[[Streamed], None] = lambda _told: None
    _look: _Look = field(default_factory=_Look)

    def __call__(self, url: str, body: dict[str, Any], timeout: float) -> Exchange:
        """Post a body to a URL, within `timeout` seconds."""
        exchange = exercise.post(url, body, timeout, watch=self._hopeless)
        self._keep(exchange.transcript())
        self.answered(exchange)
        return exchange

    def stream(
        self,
        url: str,
        body: dict[str, Any],
        *,
        total_seconds: float,
        event_seconds: float | None = None,
        cancel_after: int | None = None,
    ) -> Stream:
        """Begin a streaming request, which runs in a thread of its own; its services are watched meanwhile.

        Args:
            url: where to.
            body: sent as JSON, with ``"stream": true``.
            total_seconds: how long all of it may take.
            event_seconds: how long the next event may keep one waiting; None: as long as all of it.
            cancel_after: break off after so many events; None: never.
        """
        from pyharness.streaming import Stream  # noqa: PLC0415 (its library takes its time, and few cases stream)

        def over(told: Streamed) -> None:
            self._keep(told.transcript())
            self.streamed(told)

        return Stream(
            url,
            body,
            total_seconds=total_seconds,
            event_seconds=event_seconds,
            cancel_after=cancel_after,
            watch=self._hopeless_for_all,
            over=over,
        )

    def _keep(self, transcript: str) -> None:
        with self._look.lock, self.log.open("a", encoding="utf-8") as stream:
            stream.write(redaction.redact(transcript) + "\n")

    def _hopeless_for_all(self) -> str | None:
        with self._look.lock:
            if time.monotonic() > self._look.at + _LOOK_SECONDS:
                self._look.seen, self._look.at = self._hopeless(), time.monotonic()
            return self._look.seen

    def _hopeless(self) -> str | None:
        """Say why there will be no answer; None while there may be one."""
        if self.interrupt.is_set():
            return f"given up: {self.interrupt.signal_name}"
        ended = self.nodes.ended(self.services)
        if ended:
            return f"service {ended[0].name} on {ended[0].node} has ended"
        silent = self.nodes.silent(SILENT_SECONDS)
        return f"{silent} has not answered for {SILENT_SECONDS} s" if silent else None
