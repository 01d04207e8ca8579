"""Which transport carried bytes between two services follows from what the kernels counted, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness.verification import links
from pyharness.verification.base import CheckFailed
from pyharness.verification.links import Moved
from tests.unit.builders import FakeNodes, make_deployment, make_service, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

ONE = make_service("prefill", name="a")
TWO = make_service("decode", name="b")
DEPLOYMENT = make_deployment(services=[ONE.model_dump(), TWO.model_dump()])
NEED = 1000


def connection(near: str, near_port: int, far: str, far_port: int, received: int) -> dict[str, Any]:
    return {
        "address": near,
        "port": near_port,
        "remote_address": far,
        "remote_port": far_port,
        "bytes_sent": 0,
        "bytes_received": received,
    }


def seen(received: int = 0, *, rdma: int | None = None, state: str = "4: ACTIVE", tcp: bool = True) -> links.Seen:
    """Return what two nodes tell: one connection of Mooncake's, one to an HTTP door, and an RDMA port if asked."""
    ports = (
        [{"device": "erdma_0", "port": 1, "state": state, "sent": rdma, "received": rdma}] if rdma is not None else []
    )
    a, b = ONE.address, TWO.address
    ends = {
        "one": ("a", [connection(a, 12000, b, 15000, 0), connection(a, 12001, b, TWO.port, 0)]),
        "two": ("b", [connection(b, 15000, a, 12000, received), connection(b, TWO.port, a, 12001, 10**9)]),
    }
    return {
        node: {"services": {name: {"connections": found if tcp else None}}, "rdma": ports}
        for node, (name, found) in ends.items()
    }


def used(before: links.Seen, after: links.Seen, size: int = NEED) -> str | None:
    trial = make_trial(FakeNodes({}), DEPLOYMENT)
    return links.transport_of(trial, [Moved(ONE, TWO, size)], before, after)[0]


def test_tcp_that_carried_it_all_was_used() -> None:
    assert used(seen(500), seen(500 + NEED)) == "tcp"


def test_a_byte_too_few_is_no_proof() -> None:
    assert used(seen(500), seen(499 + NEED)) is None


def test_a_connection_to_an_http_door_does_not_count() -> None:
    trial = make_trial(FakeNodes({}), DEPLOYMENT)
    assert links.tcp_bytes(trial, Moved(ONE, TWO, NEED), seen(0), seen(7)) == 7


def test_rdma_that_carried_it_all_was_used() -> None:
    assert used(seen(0, rdma=100), seen(0, rdma=100 + NEED)) == "rdma"


def test_a_port_that_is_not_active_carries_nothing() -> None:
    assert used(seen(0, rdma=100, state="1: DOWN"), seen(0, rdma=100 + NEED, state="1: DOWN")) is None


def test_both_at_once_prove_neither() -> None:
    assert used(seen(0, rdma=0), seen(NEED, rdma=NEED)) is None


def test_a_node_that_cannot_count_proves_nothing() -> None:
    assert used(seen(tcp=False), seen(NEED, tcp=False)) is None


def test_nothing_that_had_to_move_proves_nothing() -> None:
    assert used(seen(0), seen(NEED), size=0) is None


def test_one_direction_too_few_is_no_proof() -> None:
    trial = make_trial(FakeNodes({}), DEPLOYMENT)
    moves = [Moved(ONE, TWO, NEED), Moved(TWO, ONE, NEED)]
    found, evidence = links.transport_of(trial, moves, seen(0), seen(NEED))
    assert found is None
    assert [entry["tcp_bytes"] for entry in evidence] == [NEED, 0]


def test_another_transport_than_was_asked_for_is_a_failure_with_all_numbers() -> None:
    trial = make_trial(FakeNodes({}), DEPLOYMENT)
    found, evidence = links.transport_of(trial, [Moved(ONE, TWO, NEED)], seen(0), seen(NEED))
    assert links.as_asked(found, evidence, "tcp")["used"] == "tcp"
    with pytest.raises(
        CheckFailed, match=r"went by tcp, and rdma was asked for: a to b: 1000 bytes over TCP"
    ) as failed:
        links.as_asked(found, evidence, "rdma")
    assert "ibv_devinfo" in failed.value.hint
    with pytest.raises(CheckFailed, match="no transport that accounts for it"):
        links.as_asked(None, evidence, "tcp")
