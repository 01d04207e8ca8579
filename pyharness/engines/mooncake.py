"""Mooncake alone, without an inference engine: what moves and keeps bytes and serves no model."""

from __future__ import annotations

from typing import Any, NoReturn

from pyharness.engines.base import Answer, Counters

_NO_MODEL = "Mooncake alone serves no model"


class Mooncake:
    """The engine of cases that ask Mooncake's own services, by way of agents."""

    metrics_path = "/metrics"
    models_path = "/health"

    def one_token(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the request as it is: there are no tokens."""
        return body

    def answer(self, document: Any) -> Answer:
        """Refuse: there is no text.

        Raises:
            ValueError: always.
        """
        return self._refuse(document)

    def served_models(self, document: Any) -> list[str]:
        """Refuse: there is no model.

        Raises:
            ValueError: always.
        """
        return self._refuse(document)

    def counters(self, metrics: str) -> Counters:
        """Say that nothing is counted that belongs to a model."""
        del metrics
        return Counters(None, None, None, None)

    def _refuse(self, document: Any) -> NoReturn:
        raise ValueError(f"{_NO_MODEL}: {str(document)[:200]}")
