"""Whose fault a failed request is: a service that has ended, a node or the network between nodes, or the product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import services, waiting
from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

# "discard" (RFC 863). Nobody serves it, so a machine that is there refuses it at once, also when a service of its own
# has stopped taking connections.
_CLOSED_PORT = 9
# How long a process may take from the end of its connections to its own: it gives back its memory in between.
DYING_SECONDS = 1.0


def failed_request(trial: Trial, done: Exchange) -> None:
    """If a request failed for a reason of its own, say that rather than what the router makes of it.

    Args:
        trial: whose deployment was asked.
        done: how it went.

    Raises:
        CheckFailed: a service has ended, or a node does not reach another one any more.
        NodeError: a node cannot be asked.
    """
    if done.status == 200 and not done.problem:
        return
    # A process that dies closes its connections some time before it is gone, and the request has failed by then.
    ended, _seconds = waiting.until(lambda: trial.nodes.ended(trial.deployment.services), DYING_SECONDS)
    if ended:
        failure = services.died(trial, ended[0])
        failure.evidence["exchange"] = done.transcript()
        raise failure
    _network_is_whole(trial, done)


def _network_is_whole(trial: Trial, done: Exchange) -> None:
    """Have every node knock at the services of the others."""
    deployment = trial.deployment
    doors = {
        node: [
            (service.address, port)
            for service in deployment.services
            if service.node != node
            for port in (service.port, _CLOSED_PORT)
        ]
        for node in deployment.nodes
    }
    doors = {node: asked for node, asked in doors.items() if asked}
    seen = trial.nodes.probe([], reach=doors)
    for node, knocked in doors.items():
        answered = {address for (address, _port), yes in zip(knocked, seen[node]["reached"], strict=True) if yes}
        cut_off = sorted({address for address, _port in knocked} - answered)
        if cut_off:
            raise CheckFailed(
                f"{node} does not reach {', '.join(cut_off)} any more, so the request had to fail: "
                f"{done.problem or f'HTTP {done.status}'}",
                {"from": node, "to": cut_off, "exchange": done.transcript()},
                hint="mend the network between the nodes and run again; this says nothing about what is tested",
                class_="infrastructure",
                spoils_judgement=True,
            )
