"""Where the two halves of one request meet: prefill's bootstrap service and decode's call to it.

The router sends the same request to both engines with one ``bootstrap_room``. Decode posts to prefill's
bootstrap port where the KV cache of that room has to go; prefill writes it there and answers. (SGLang uses
ZeroMQ between the engines here; only the meeting itself is imitated, not its wire format.)
"""

import http.client
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

PATH: Final = "/transfer"


def waiting_seconds() -> float:
    """Seconds that one half waits for the other: SGLang's setting and its default."""
    return float(os.environ.get("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", "300"))


class TransferError(Exception):
    """The KV cache did not get across."""


@dataclass(frozen=True)
class Target:
    """Where decode wants a KV cache.

    Attributes:
        session: Decode's Mooncake session.
        address: Address in decode's registered memory.
        length: Bytes wanted.
    """

    session: str
    address: int
    length: int


@dataclass(frozen=True)
class Delivery:
    """What prefill says it delivered.

    Attributes:
        byte_count: Bytes of the KV cache that it says it moved.
        cached_tokens: Prompt tokens that prefill had in its prefix cache.
    """

    byte_count: int
    cached_tokens: int


@dataclass
class _Offer:
    """One prefilled prompt that waits for its decode."""

    deliver: Callable[[Target], Delivery]
    claimed: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: str | None = None


class Rooms:
    """The prompts that prefill has computed and decode has not fetched yet, by room."""

    def __init__(self) -> None:
        """Begin with no offered prompt."""
        self._offers: dict[int, _Offer] = {}
        self._changed = threading.Condition()

    def offer(self, room: int, deliver: Callable[[Target], Delivery]) -> None:
        """Offer a KV cache and wait until decode has it.

        Args:
            room: The request's bootstrap room.
            deliver: Moves the KV cache to decode's memory; runs in the thread of decode's call.

        Raises:
            TransferError: Decode did not ask in time, or the delivery failed.
        """
        offer = _Offer(deliver)
        with self._changed:
            self._offers[room] = offer
            self._changed.notify_all()
        if not offer.done.wait(waiting_seconds()):
            with self._changed:
                self._offers.pop(room, None)
            message = f"decode did not fetch the KV cache of room {room} within {waiting_seconds():g} s"
            raise TransferError(message)
        if offer.error is not None:
            raise TransferError(offer.error)

    def claim(self, room: int, target: Target) -> Delivery:
        """Deliver the KV cache of a room, as soon as prefill has computed it.

        Raises:
            TransferError: Prefill did not get the request in time, or the delivery failed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: room in self._offers, waiting_seconds()):
                message = f"prefill got no request for room {room} within {waiting_seconds():g} s"
                raise TransferError(message)
            offer = self._offers.pop(room)
        try:
            return offer.deliver(target)
        except TransferError as error:
            offer.error = str(error)
            raise
        finally:
            offer.done.set()


def serve_claim(rooms: Rooms, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer decode's POST to the bootstrap port.

    Args:
        rooms: Prefill's rooms.
        body: The parsed request.

    Returns:
        HTTP status and JSON body: the `Delivery`, or ``{"error": ...}``.
    """
    try:
        target = Target(str(body["session"]), int(body["address"]), int(body["length"]))
        delivery = rooms.claim(int(body["room"]), target)
    except (KeyError, TypeError, ValueError) as error:
        return 400, {"error": f"no transfer request: {error!r}"}
    except TransferError as error:
        return 502, {"error": str(error)}
    return 200, {"byte_count": delivery.byte_count, "cached_tokens": delivery.cached_tokens}


def request_delivery(host: str, port: int, room: int, target: Target) -> Delivery:
    """Ask prefill for the KV cache of a room and wait until it says that it is there.

    Args:
        host: The request's ``bootstrap_host``.
        port: The request's ``bootstrap_port``.
        room: The request's ``bootstrap_room``.
        target: Where to put it.

    Raises:
        TransferError: Prefill cannot be reached, does not answer in time, or reports a failure.
    """
    body = {"room": room, "session": target.session, "address": target.address, "length": target.length}
    connection = http.client.HTTPConnection(host, port, timeout=waiting_seconds())
    try:
        connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = json.loads(response.read())
        if response.status != http.client.OK:
            message = f"prefill's bootstrap service at {host}:{port}: {content['error']}"
            raise TransferError(message)
        return Delivery(content["byte_count"], content["cached_tokens"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        message = f"prefill's bootstrap service at {host}:{port} gave no answer: {error!r}"
        raise TransferError(message) from error
    finally:
        connection.close()
