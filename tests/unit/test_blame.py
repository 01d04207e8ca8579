"""Whose fault a failed request is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness.exercise import Exchange
from pyharness.verification import blame
from pyharness.verification.base import CheckFailed
from tests.unit.builders import FakeNodes, make_trial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyharness.deployment import Service

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

FAILED = Exchange("POST", "http://router/generate", {}, 500, {}, "no decode", None, 1.0)
GOOD = Exchange("POST", "http://router/generate", {}, 200, {}, "{}", None, 1.0)


def ask(nodes: FakeNodes, done: Exchange = FAILED) -> None:
    blame.failed_request(make_trial(nodes), done)


def reached(one: list[bool], two: list[bool]) -> dict[str, dict[str, Any]]:
    """Node one knocks at decode (two doors), node two at prefill and router (two doors each)."""
    return {"one": {"reached": one}, "two": {"reached": two}}


def test_a_good_answer_is_nobodys_fault() -> None:
    nodes = FakeNodes({})
    ask(nodes, GOOD)
    assert nodes.asked == []


def test_a_service_that_has_ended_is_blamed_first() -> None:
    with pytest.raises(CheckFailed, match=r"service decode on two .* has ended") as caught:
        ask(FakeNodes(reached([False] * 2, [False] * 4), dead=["decode"]))
    assert caught.value.class_ == "product"


def test_a_network_that_is_cut_is_no_failure_of_the_product() -> None:
    with pytest.raises(CheckFailed, match=r"two does not reach 127\.0\.0\.41 any more") as caught:
        ask(FakeNodes(reached([True, True], [False] * 4)))
    assert (caught.value.class_, caught.value.spoils_judgement) == ("infrastructure", True)


def test_a_machine_that_refuses_one_of_its_doors_is_there() -> None:
    """A server that has stopped taking connections is the product's failure, which the check itself reports."""
    nodes = FakeNodes(reached([False, True], [True, True, False, True]))
    ask(nodes)
    assert nodes.asked[0]["reach"]["one"] == [("127.0.0.42", 30001), ("127.0.0.42", 9)]


def test_a_service_that_is_just_dying_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blame, "DYING_SECONDS", 30.0)
    nodes = FakeNodes(reached([True] * 2, [True] * 4))
    looks: list[int] = []

    def ended(services: Iterable[Service]) -> list[Service]:
        looks.append(1)
        return [service for service in services if service.name == "decode" and len(looks) > 1]

    monkeypatch.setattr(nodes, "ended", ended)
    with pytest.raises(CheckFailed, match=r"service decode on two .* has ended"):
        ask(nodes)
    assert len(looks) == 2
