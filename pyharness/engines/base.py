"""What the harness needs of any engine. Checks are written against this and know no engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """What an engine answered to the request under test."""

    text: str
    prompt_tokens: int | None


@dataclass(frozen=True)
class Counters:
    """What a server says it has done since its start; None where it does not say.

    Attributes:
        transferred_bytes: KV cache sent to or taken from another server.
        transfers: how many transfers that was.
        failed_transfers: transfers that failed.
        computed_tokens: prompt tokens that this server prefilled itself.
        page_size: tokens that are moved together; None where it does not say.
        external_tokens: prompt tokens whose KV cache it took from another server.
        requests: requests that it has finished.
    """

    transferred_bytes: int | None
    transfers: int | None
    failed_transfers: int | None
    computed_tokens: int | None
    page_size: int | None = None
    external_tokens: int | None = None
    requests: int | None = None


class Engine(Protocol):
    """One engine's ways."""

    metrics_path: str
    models_path: str

    def one_token(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request of the same form whose answer is a single token."""

    def answer(self, document: Any) -> Answer:
        """Read an answer.

        Raises:
            ValueError: it is no answer; the text says what it is.
        """

    def served_models(self, document: Any) -> list[str]:
        """Read the names of the models that a server says it serves.

        Raises:
            ValueError: it does not say.
        """

    def counters(self, metrics: str) -> Counters:
        """Read a server's metrics.

        Raises:
            ValueError: they are not in the Prometheus text format.
        """
