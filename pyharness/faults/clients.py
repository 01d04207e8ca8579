"""What clients do to a service: one that goes away in the middle of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.faults import on_node
from pyharness.faults.contract import Fault, FaultFailed, where
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.waiting import until

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.fault_record import FaultTarget
    from pyharness.streaming import Stream
    from pyharness.verification.base import Trial

# The end of a connection is a packet's way; a busy machine takes its time to look.
_CLOSED_SECONDS = 5.0


class Cancel(Fault):
    """A client breaks its stream off. Proven by the kernel of the node that answers; there is no way back.

    Args:
        stream: one that is under way, whose first event has come.
        service: who answers it.
    """

    name = "cancel"
    revertible = False

    def __init__(self, stream: Stream, service: Service) -> None:
        self._stream, self._service = stream, service

    @property
    def targets(self) -> list[FaultTarget]:
        """The service, and the client's end of the connection."""
        address = ":".join(str(part) for part in self._stream.address or ())
        return [where(self._service).model_copy(update={"address": address or None})]

    def _connections(self, trial: Trial) -> list[dict[str, object]]:
        asked = list(self._stream.address or ("", 0))
        found: list[dict[str, object]] = on_node.do(trial, self._service, on_node.CONNECTED, client=asked)[
            "connections"
        ]
        return found

    def precondition(self, trial: Trial) -> Evidence:
        """Show that the stream is under way, and that the service's node has its connection."""
        if self._stream.is_over:
            told = self._stream.result()
            problem = f"{self} is not made: its stream was over before, {told.ending} after {len(told.events)} events"
            if told.complete:
                raise FaultFailed(problem, told.evidence(), hint="ask for more tokens")
            raise CheckFailed(problem, told.evidence(), hint="see in curl_response.log how it ended")
        found = self._connections(trial)
        if not found:
            raise FaultFailed(
                f"{self} is not made: {self._service.node} has no connection with the client, {self._stream.address}",
                hint="whether it is closed afterwards could not be seen; is there a proxy or NAT in between?",
            )
        return {"connections": found, "events": len(self._stream.events)}

    def inject(self, trial: Trial) -> Evidence:
        """Close the client's end."""
        del trial
        self._stream.cancel()
        return {"events": len(self._stream.events)}

    def effect(self, trial: Trial) -> Evidence:
        """Prove that the connection is not established any more."""
        told = self._stream.result()
        if told.ending != "cancelled":
            raise FaultFailed(
                f"{self} did not take effect: the stream was over by itself ({told.ending})", told.evidence()
            )
        closed, waited = until(lambda: not self._connections(trial), _CLOSED_SECONDS)
        if not closed:
            raise FaultFailed(
                f"{self} did not take effect: the connection is established still, {waited:g} s after it was broken off"
            )
        return {"events": len(told.events), "closed": True}
