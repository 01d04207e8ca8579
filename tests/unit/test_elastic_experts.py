"""Experts on several ranks: what the server says of itself, and what the kernel counts at Mooncake's doors."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pyharness import case as cases
from pyharness import exercise
from pyharness.exercise import Exchange
from pyharness.verification import elastic_experts
from pyharness.verification.base import CheckFailed
from tests.unit.builders import FakeNodes, make_deployment, make_service, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.mooncake]

CONFIG = {"num_hidden_layers": 3, "first_k_dense_replace": 1, "hidden_size": 128, "n_routed_experts": 8}
# Two layers with experts, 100 tokens of 128 numbers of four bytes.
NEEDED = 2 * 100 * 128 * 4
LOG = (
    "I1121 tcp_transport.cpp:391] TcpTransport: listen on port 16101\n"
    "[TP0 EP0] Init parallel begin.\n"
    "I1121 tcp_transport.cpp:391] TcpTransport: listen on port 15003\n"
)
SAID = {"tp_size": 2, "ep_size": 2, "elastic_ep_backend": "mooncake"}


class LoggingNodes(FakeNodes):
    """Nodes whose services have a log."""

    def host(self, _name: str) -> Any:
        return SimpleNamespace(run=lambda *_command: SimpleNamespace(stdout=LOG))


def trial_of(config: dict[str, Any] | None = CONFIG) -> Any:
    service = make_service("prefill").model_dump() | {"kind": "single", "name": "single"}
    model = {"name": "org/moe", "path": "/model", "revision": None, "config": config, "stand_in": None}
    case = cases.load("test_moe_mooncake")
    deployment = make_deployment(services=[service], model=model, workload=case.workload)
    return make_trial(LoggingNodes({}), deployment, case=case)


def seen(*received: tuple[int, int]) -> Any:
    """Return what the kernel counts: bytes received by port; others' connections go to port 40000."""
    connections = [
        {
            "address": "127.0.0.41",
            "port": port,
            "remote_address": "127.0.0.41",
            "remote_port": 50000 + number,
            "bytes_received": count,
        }
        for number, (port, count) in enumerate([*received, (40000, 10**9)])
    ]
    return {"one": {"services": {"single": {"connections": connections}}}}


def test_bytes_at_the_doors_of_all_ranks() -> None:
    before, after = seen((16101, 50), (15003, 60)), seen((16101, 50 + NEEDED), (15003, 60 + NEEDED))
    evidence = elastic_experts.collectives_over_mooncake(trial_of(), before, after, 100)
    assert evidence["received_by_port"] == {"15003": NEEDED, "16101": NEEDED}


def test_a_connection_that_is_new_counts_whole() -> None:
    after = seen((16101, NEEDED), (15003, NEEDED))
    elastic_experts.collectives_over_mooncake(trial_of(), seen(), after, 100)


@pytest.mark.parametrize(
    ("received", "words"),
    [
        ([], "of 2 ranks 0 got their share"),
        ([(16101, NEEDED)], "of 2 ranks 1 got their share"),
        ([(16101, NEEDED), (15003, NEEDED - 1)], "of 2 ranks 1 got their share"),
    ],
)
def test_less_than_the_experts_sums_need(received: list[tuple[int, int]], words: str) -> None:
    with pytest.raises(CheckFailed, match=words) as caught:
        elastic_experts.collectives_over_mooncake(trial_of(), seen(), seen(*received), 100)
    assert caught.value.class_ == "product"


def test_no_door_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_experts, "mooncake_doors", lambda *_arguments: set())
    with pytest.raises(CheckFailed, match="no door of Mooncake is known"):
        elastic_experts.collectives_over_mooncake(trial_of(), seen(), seen((16101, NEEDED)), 100)


def test_a_model_whose_config_is_not_known_needs_any_byte() -> None:
    assert elastic_experts.least_bytes(None, 100) == 1


def saying(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    def get(url: str, _timeout: float) -> Exchange:
        return Exchange("GET", url, None, 200, {}, json.dumps({**SAID, **changes}), None, 0.1)

    monkeypatch.setattr(exercise, "get", get)


def test_a_server_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch)
    assert elastic_experts.experts_spread(trial_of()) == {"single": SAID, "routed_experts": 8}


@pytest.mark.parametrize("change", [{"elastic_ep_backend": None}, {"ep_size": 1}])
def test_a_server_that_runs_otherwise(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    saying(monkeypatch, **change)
    with pytest.raises(CheckFailed, match="was asked for"):
        elastic_experts.experts_spread(trial_of())


def test_a_model_without_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch)
    with pytest.raises(CheckFailed, match="org/moe has no experts that could be spread") as caught:
        elastic_experts.experts_spread(trial_of({"num_hidden_layers": 2, "hidden_size": 128}))
    assert (caught.value.class_, caught.value.spoils_judgement) == ("configuration", True)
