"""Many servers behind one router: who took part, and whether what moved adds up for each of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case, exercise
from pyharness.engines.base import Counters
from pyharness.verification import fleet, test_xpyd, transfer, wires
from pyharness.verification.base import CheckFailed
from pyharness.verification.wires import Snapshot
from tests.unit.builders import BYTES_PER_TOKEN, FakeNodes, make_deployment, make_service, make_trial

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = case.load("test_xpyd")
EACH = 13 * BYTES_PER_TOKEN
SERVERS = [("prefill", 1), ("prefill", 2), ("decode", 1), ("decode", 2)]
ZERO = Counters(0, 0, 0, 0, requests=0)
PREFILL, DECODE = Counters(EACH, 1, 0, 13, requests=1), Counters(0, 0, 0, 0, requests=1)
RIGHT = (200, {"text": "hello world", "meta_info": {"prompt_tokens": 13}})


def address(kind: str, number: int) -> str:
    return f"127.0.{0 if kind == 'prefill' else 1}.{number}"


def fleet_of_four(nodes: FakeNodes | None = None, **changes: Any) -> Trial:
    services = [
        make_service(
            kind,
            name=f"{kind}-{number}",
            node=f"{kind}{number}",
            address=address(kind, number),
            url=f"http://{address(kind, number)}:30001",
            pid=100 + place,
        ).model_dump()
        for place, (kind, number) in enumerate(SERVERS)
    ]
    services.append(make_service("router", node="prefill1").model_dump())
    deployment = make_deployment(services=services, workload={"waves": 2, "side_by_side": 2})
    return make_trial(nodes or FakeNodes({}), deployment, case=CASE, **changes)


def kernel(received: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return probes in which prefill-N has one connection to decode-N, which has received so much."""
    seen: dict[str, dict[str, Any]] = {}
    for kind, number in SERVERS:
        near, far = ("prefill", "decode") if kind == "prefill" else ("decode", "prefill")
        count = received.get(f"decode-{number}", 0)
        ends = {
            "address": address(near, number),
            "port": 12001 if near == "decode" else 45000,
            "remote_address": address(far, number),
            "remote_port": 12001 if far == "decode" else 45000,
            "bytes_sent": count if kind == "prefill" else 0,
            "bytes_received": count if kind == "decode" else 0,
        }
        seen[f"{kind}{number}"] = {"services": {f"{kind}-{number}": {"connections": [ends]}}, "rdma": []}
    return seen


def before() -> Snapshot:
    return Snapshot({f"{kind}-{number}": ZERO for kind, number in SERVERS}, kernel({}))


def after(received: dict[str, int] | None = None, /, **counters: Counters) -> Snapshot:
    """Return what was counted when each server had one request; by `prefill_1` and so on what one has counted else."""
    known = {f"{kind}-{number}": PREFILL if kind == "prefill" else DECODE for kind, number in SERVERS}
    known |= {name.replace("_", "-"): value for name, value in counters.items()}
    return Snapshot(known, kernel({"decode-1": EACH, "decode-2": EACH} if received is None else received))


def test_a_fleet_in_which_each_carried_its_part_is_right() -> None:
    trial = fleet_of_four()
    taken = fleet.every_server_took_part(trial, before(), after(), 2)
    assert taken["finished"] == dict.fromkeys(["prefill-1", "prefill-2", "decode-1", "decode-2"], 1)
    moved = fleet.kv_cache_moved(trial, before(), after(), 13, 2)
    assert moved["servers"]["decode-2"]["received_bytes"] == EACH
    assert moved["servers"]["prefill-2"]["transferred_bytes"] == EACH
    assert fleet.idle(trial, before().counters, after().counters) == []


@pytest.mark.parametrize(
    ("wrong", "requests", "told"),
    [
        ({"decode_2": ZERO}, 2, "1 of 4 servers have finished none of 2 requests: decode-2"),
        ({"decode_2": Counters(0, 0, 0, 0)}, 2, "decode-2 does not say how many requests it has finished"),
        ({}, 3, "the prefill servers have finished 2 requests, and 3 were sent"),
        ({"decode_1": Counters(0, 0, 0, 0, requests=2)}, 2, "the decode servers have finished 3 requests, and 2 were"),
    ],
)
def test_a_server_that_does_not_take_part_is_named(wrong: dict[str, Counters], requests: int, told: str) -> None:
    with pytest.raises(CheckFailed, match=told):
        fleet.every_server_took_part(fleet_of_four(), before(), after(None, **wrong), requests)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (
            after(decode_2=Counters(0, 0, 0, 13, requests=1)),
            r"decode \(decode-2 on decode2\) prefilled 13 tokens itself",
        ),
        (after(decode_2=Counters(0, 0, 0, None, requests=1)), r"decode-2 on decode2\) prefilled None tokens"),
        (after({"decode-1": EACH, "decode-2": EACH - 1}), rf"decode-2 on decode2\) received {EACH - 1} bytes"),
        (
            after(prefill_1=Counters(EACH // 2, 1, 0, 13, requests=1)),
            rf"prefill-1 on prefill1\) counted {EACH // 2} tr",
        ),
        (after(prefill_1=Counters(0, 0, 0, 13, requests=1)), r"prefill-1 on prefill1\) counted 0 transferred bytes"),
        (after(prefill_2=Counters(EACH, 1, 1, 13, requests=1)), "transfers failed and were repeated: prefill-2"),
    ],
)
def test_what_did_not_move_is_told_with_its_server(seen: Snapshot, told: str) -> None:
    with pytest.raises(CheckFailed, match=told):
        fleet.kv_cache_moved(fleet_of_four(), before(), seen, 13, 2)


def exchange(status: int | None, document: Any) -> exercise.Exchange:
    text, problem = (None, "connection refused") if status is None else (json.dumps(document), None)
    return exercise.Exchange("POST", "http://it", {}, status, {}, text, problem, 0.1)


def test_one_wrong_answer_among_many_is_found_and_numbered() -> None:
    right, wrong = exchange(*RIGHT), exchange(200, {"text": "hell", "meta_info": {"prompt_tokens": 13}})
    assert fleet.answers_correct(fleet_of_four(), [right, right])["requests"] == 2
    with pytest.raises(CheckFailed, match="request 2 of 3: "):
        fleet.answers_correct(fleet_of_four(), [right, wrong, right])


def test_waves_are_sent_until_every_server_has_had_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    late = after(decode_2=ZERO, decode_1=Counters(0, 0, 0, 0, requests=2))
    twice = Counters(2 * EACH, 2, 0, 13, requests=2)
    all_of_them = after(
        {"decode-1": 2 * EACH, "decode-2": 2 * EACH},
        prefill_1=twice,
        prefill_2=twice,
        decode_1=Counters(0, 0, 0, 0, requests=2),
        decode_2=Counters(0, 0, 0, 0, requests=2),
    )
    told = iter([late.counters, all_of_them.counters])
    monkeypatch.setattr(transfer, "snapshot", lambda _trial: before())
    monkeypatch.setattr(fleet, "settled", lambda _trial, _before, _requests: next(told))
    monkeypatch.setattr(wires, "probe", lambda _trial: all_of_them.kernel)
    asked: list[str] = []

    def send(url: str, _body: dict[str, Any], _timeout: float) -> exercise.Exchange:
        asked.append(url)
        return exchange(*RIGHT)

    trial = fleet_of_four(send=send)
    test_xpyd.exercise(trial)
    assert not trial.recorder.failures
    assert [check.id for check in trial.recorder.checks] == list(test_xpyd.CHECKS[2:])
    assert len(asked) == 1 + 2 * 2, "one for one token, then two waves of as many as either group has servers"
    assert trial.transport.used == "tcp"


def test_without_an_answer_nothing_else_is_looked_at() -> None:
    trial = fleet_of_four(send=lambda _url, _body, _timeout: exchange(None, None))
    test_xpyd.exercise(trial)
    assert {check.id: check.status for check in trial.recorder.checks} == {
        "router_ready": "fail",
        **dict.fromkeys(test_xpyd.CHECKS[3:], "skipped"),
    }
