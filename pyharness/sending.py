"""Requests of a trial: its services are watched meanwhile, and each exchange is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import exercise, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyharness.deployment import Service
    from pyharness.exercise import Exchange
    from pyharness.interrupt import Interrupt
    from pyharness.verification.node_probe import Nodes

# How long a node may not answer before no answer to a request is waited for any more.
SILENT_SECONDS = 10


@dataclass(frozen=True)
class Sender:
    """Posts bodies, and gives up when there can be no answer any more.

    Attributes:
        nodes: where the services run.
        services: whose end means that there will be no answer.
        log: file that takes each exchange as a person reads it.
        interrupt: whether the run is to end.
        answered: told of each exchange.
    """

    nodes: Nodes
    services: Sequence[Service]
    log: Path
    interrupt: Interrupt
    answered: Callable[[Exchange], None]

    def __call__(self, url: str, body: dict[str, Any], timeout: float) -> Exchange:
        """Post a body to a URL, within `timeout` seconds."""
        exchange = exercise.post(url, body, timeout, watch=self._hopeless)
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(redaction.redact(exchange.transcript()) + "\n")
        self.answered(exchange)
        return exchange

    def _hopeless(self) -> str | None:
        """Say why there will be no answer; None while there may be one."""
        if self.interrupt.is_set():
            return f"given up: {self.interrupt.signal_name}"
        ended = self.nodes.ended(self.services)
        if ended:
            return f"service {ended[0].name} on {ended[0].node} has ended"
        silent = self.nodes.silent(SILENT_SECONDS)
        return f"{silent} has not answered for {SILENT_SECONDS} s" if silent else None
