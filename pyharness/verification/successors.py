"""What runs in the place of services that were ended on purpose, so that nobody takes their end for a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyharness.deployment import Service

_Mark = tuple[str, str, int, float]


class Successors:
    """Services by their own marks, and what took their place; None while nothing has."""

    def __init__(self) -> None:
        self._known: dict[_Mark, Service | None] = {}

    def note(self, service: Service, successor: Service | None) -> None:
        """Note what took the place of a service. See `Nodes.replaced`."""
        self._known[_mark(service)] = successor
        if successor is not None and _mark(successor) == _mark(service):
            del self._known[_mark(service)]

    def of(self, service: Service) -> Service | None:
        """Return what runs in the place of a service. See `Nodes.current`."""
        current: Service | None = service
        while current is not None and _mark(current) in self._known:
            current = self._known[_mark(current)]
        return current if current is not None and current.pid else None


def _mark(service: Service) -> _Mark:
    """Return what no other process of the run has."""
    return service.node, service.name, service.pid, service.started_at
