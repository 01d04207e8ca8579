"""Did the KV cache move, and by which transport: snapshots built by hand, one wrong thing at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import exercise
from pyharness.engines.base import Counters
from pyharness.verification import transfer
from pyharness.verification.base import CheckFailed
from pyharness.verification.transfer import Snapshot
from tests.unit.builders import BYTES_PER_TOKEN, CONFIG, FakeNodes, make_deployment, make_service, make_trial

if TYPE_CHECKING:
    from pyharness.deployment import Deployment

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

TOKENS = 13
WHOLE = TOKENS * BYTES_PER_TOKEN
UNKNOWN = Counters(None, None, None, None)
SILENT: dict[str, dict[str, Any]] = {
    "one": {"services": {"prefill": {"connections": []}}, "rdma": []},
    "two": {"services": {"decode": {"connections": []}}, "rdma": []},
}


def counters(
    sent: int = 0, *, transfers: int = 0, failed: int = 0, prefill: int = 0, decode: int = 0
) -> dict[str, Counters]:
    return {
        "prefill": Counters(sent, transfers, failed, prefill),
        "decode": Counters(0, 0, 0, decode),
    }


# What had been counted before the request: a second model on the same servers must not begin at zero.
BEFORE = Snapshot(counters(1000, transfers=4, failed=2, prefill=50, decode=7), SILENT)


def after(sent: int = WHOLE, *, failed: int = 0, prefill: int = TOKENS, decode: int = 0) -> Snapshot:
    return Snapshot(
        counters(1000 + sent, transfers=5, failed=2 + failed, prefill=50 + prefill, decode=7 + decode), SILENT
    )


def moved(now: Snapshot, deployment: Deployment | None = None, tokens: int | None = TOKENS) -> dict[str, Any]:
    subject = make_trial(FakeNodes(SILENT), deployment)
    return transfer.kv_cache_moved(subject, BEFORE, now, tokens)


def refused(now: Snapshot, deployment: Deployment | None = None, tokens: int | None = TOKENS) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        moved(now, deployment, tokens)
    return caught.value


def of_shape(config: dict[str, Any] | None) -> Deployment:
    model = {"name": "org/model", "path": "/model", "revision": None, "config": config, "stand_in": None}
    return make_deployment(model=model)


def test_exactly_this_prompts_bytes_are_right() -> None:
    evidence = moved(after())
    assert (evidence["bytes_expected"], evidence["bytes_moved"]) == (WHOLE, WHOLE)
    assert evidence["counters"]["prefill"] == {
        "transferred_bytes": WHOLE,
        "transfers": 1,
        "failed_transfers": 0,
        "computed_tokens": TOKENS,
    }


@pytest.mark.parametrize("sent", [WHOLE - BYTES_PER_TOKEN, WHOLE - 1, WHOLE + 1, 2 * WHOLE])
def test_too_little_or_too_much_is_wrong(sent: int) -> None:
    failure = refused(after(sent))
    assert str(failure) == f"{sent} bytes of KV cache moved, and this prompt of 13 tokens has {WHOLE}"
    assert failure.class_ == "product"
    assert failure.evidence["bytes_moved"] == sent


def test_nothing_moved_is_wrong() -> None:
    assert str(refused(after(0))).startswith("no KV cache moved: prefill counted 0 transferred bytes")


def test_decode_that_prefills_itself_is_wrong() -> None:
    failure = refused(after(decode=TOKENS))
    assert "decode (decode on two) prefilled 13 tokens itself" in str(failure)


def test_decode_that_does_not_say_is_wrong() -> None:
    now = Snapshot({**after().counters, "decode": UNKNOWN}, SILENT)
    assert "decode (decode) does not say how many tokens it prefilled itself" in str(refused(now))


def test_prefill_that_does_not_say_is_wrong() -> None:
    now = Snapshot({**after().counters, "prefill": UNKNOWN}, SILENT)
    assert "prefill counted None transferred bytes" in str(refused(now))


def test_prefill_that_counts_no_token_makes_decodes_zero_worthless() -> None:
    failure = refused(after(prefill=0))
    assert "decode's zero proves nothing" in str(failure)
    assert failure.class_ == "test"


def test_a_transfer_that_failed_on_the_way_is_wrong() -> None:
    assert str(refused(after(failed=1))) == "a transfer failed and was repeated"


@pytest.mark.parametrize(("config", "tokens"), [(None, TOKENS), ({}, None)])
def test_without_the_models_shape_or_the_prompts_length_any_transfer_counts(
    config: dict[str, Any] | None, tokens: int | None
) -> None:
    deployment = of_shape(config)
    assert moved(after(1), deployment, tokens)["bytes_expected"] is None
    assert "no KV cache moved" in str(refused(after(0), deployment, tokens))


LATENT = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 16,
    "dtype": "float32",
}


def with_ranks(prefill: int, decode: int, config: dict[str, Any]) -> Deployment:
    model = {"name": "org/model", "path": "/model", "revision": None, "config": config, "stand_in": None}
    commands = {"prefill": ["sglang", "--tp-size", str(prefill)], "decode": ["sglang", "--tp-size", str(decode)]}
    services = [
        make_service(kind, **({"command": commands[kind]} if kind in commands else {})).model_dump()
        for kind in ("prefill", "router", "decode")
    ]
    return make_deployment(model=model, services=services)


@pytest.mark.parametrize(("prefill", "decode"), [(1, 2), (2, 1), (2, 2)])
def test_latent_ranks_count_the_whole_cache_each(prefill: int, decode: int) -> None:
    deployment, whole = with_ranks(prefill, decode, LATENT), TOKENS * 640
    evidence = moved(after(2 * whole), deployment)
    assert (evidence["bytes_expected"], evidence["ranks"]) == (2 * whole, {"prefill": prefill, "decode": decode})
    for wrong in (whole, 2 * whole - 1, 4 * whole):
        assert "bytes of KV cache moved" in str(refused(after(wrong), deployment))


def test_ranks_with_heads_of_their_own_count_the_cache_once() -> None:
    deployment = with_ranks(1, 2, CONFIG)
    assert moved(after(WHOLE), deployment)["bytes_expected"] == WHOLE
    refused(after(2 * WHOLE), deployment)


def test_the_last_page_moves_whole() -> None:
    """13 tokens in pages of 16 are 16; measured with --page-size 16."""
    now = after(16 * BYTES_PER_TOKEN)
    now.counters["prefill"] = replace(now.counters["prefill"], page_size=16)
    assert moved(now)["bytes_expected"] == 16 * BYTES_PER_TOKEN
    short = after(WHOLE)
    short.counters["prefill"] = replace(short.counters["prefill"], page_size=16)
    refused(short)


def test_what_each_latent_decode_rank_needs_has_to_cross() -> None:
    whole, trial = TOKENS * 640, make_trial(FakeNodes(SILENT), with_ranks(1, 2, LATENT))
    assert transfer.transport_used(trial, kernel(), kernel(carrying(2 * whole)), TOKENS)[0] == "tcp"
    assert transfer.transport_used(trial, kernel(), kernel(carrying(2 * whole - 1)), TOKENS)[0] is None
    # Two prefill ranks count it twice, and one of them sends it.
    trial = make_trial(FakeNodes(SILENT), with_ranks(2, 1, LATENT))
    assert transfer.transport_used(trial, kernel(), kernel(carrying(whole)), TOKENS)[0] == "tcp"


# ---------------------------------------------------------------- the kernel's view

Link = tuple[str, int, str, int, int, int]
DATA: Link = ("127.0.0.41", 12001, "127.0.0.42", 45000, 0, 0)


def connection(link: Link, side: str) -> dict[str, Any]:
    near_address, near_port, far_address, far_port, sent, received = link
    ends = [(near_address, near_port), (far_address, far_port)]
    near, far = ends if side == "prefill" else reversed(ends)
    return {
        "address": near[0],
        "port": near[1],
        "remote_address": far[0],
        "remote_port": far[1],
        "bytes_sent": sent if side == "prefill" else 0,
        "bytes_received": 0 if side == "prefill" else received,
    }


def kernel(*links: Link, rdma: dict[str, list[dict[str, Any]]] | None = None) -> Snapshot:
    """Return what both nodes see of connections, given from prefill's side, with the bytes that crossed."""
    ports = rdma or {}
    return Snapshot(
        counters(),
        {
            "one": {
                "services": {"prefill": {"connections": [connection(link, "prefill") for link in links]}},
                "rdma": ports.get("one", []),
            },
            "two": {
                "services": {"decode": {"connections": [connection(link, "decode") for link in links]}},
                "rdma": ports.get("two", []),
            },
        },
    )


def carrying(count: int, link: Link = DATA) -> Link:
    return (*link[:4], count, count)


def test_bytes_are_those_that_decode_received_in_between() -> None:
    deployment = make_deployment()
    assert transfer.tcp_bytes(deployment, kernel(carrying(100)), kernel(carrying(100 + WHOLE))) == WHOLE


def test_a_connection_opened_in_between_counts_whole() -> None:
    assert transfer.tcp_bytes(make_deployment(), kernel(), kernel(carrying(WHOLE))) == WHOLE


def test_several_connections_are_summed() -> None:
    other: Link = ("127.0.0.41", 12002, "127.0.0.42", 45001, 0, 0)
    now = kernel(carrying(10), carrying(20, other))
    assert transfer.tcp_bytes(make_deployment(), kernel(carrying(3)), now) == 27


def test_a_connection_that_only_one_end_has_is_not_between_the_two() -> None:
    """A decode server's traffic with its own router or store is no transfer."""
    now = kernel(carrying(WHOLE))
    now.kernel["one"]["services"]["prefill"]["connections"] = []
    assert transfer.tcp_bytes(make_deployment(), kernel(), now) == 0


def test_a_connection_to_a_services_http_port_is_no_transfer() -> None:
    asked: Link = ("127.0.0.41", 30001, "127.0.0.42", 45000, WHOLE, WHOLE)
    asking: Link = ("127.0.0.41", 45000, "127.0.0.42", 30001, WHOLE, WHOLE)
    assert transfer.tcp_bytes(make_deployment(), kernel(), kernel(asked, asking)) == 0


def test_a_node_without_ss_makes_it_unknown() -> None:
    blind = kernel()
    blind.kernel["two"]["services"]["decode"]["connections"] = None
    assert transfer.tcp_bytes(make_deployment(), kernel(), blind) is None
    assert transfer.tcp_bytes(make_deployment(), blind, kernel()) is None


def port(sent: int | None, received: int | None, state: str | None) -> dict[str, Any]:
    return {"device": "erdma_0", "port": 1, "state": state, "sent": sent, "received": received}


def over_rdma(sent: int | None, received: int | None, state: str | None = "4: ACTIVE") -> Snapshot:
    return kernel(rdma={"one": [port(sent, 0, state)], "two": [port(0, received, state)]})


def used(before: Snapshot, now: Snapshot, tokens: int | None = TOKENS) -> tuple[str | None, list[dict[str, Any]]]:
    return transfer.transport_used(make_trial(FakeNodes(SILENT)), before, now, tokens)


def test_tcp_is_what_carried_the_prompts_bytes() -> None:
    transport, evidence = used(kernel(), kernel(carrying(WHOLE)))
    assert transport == "tcp"
    assert [entry.get("bytes") for entry in evidence] == [WHOLE, None, WHOLE]


def test_rdma_is_what_both_nodes_ports_carried() -> None:
    transport, evidence = used(over_rdma(500, 700), over_rdma(500 + WHOLE, 700 + WHOLE))
    assert transport == "rdma"
    assert (evidence[1]["sent"], evidence[1]["received"]) == (WHOLE, WHOLE)
    assert evidence[1]["active_ports"] == ["one:erdma_0/1", "two:erdma_0/1"]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (kernel(), kernel()),
        (kernel(), kernel(carrying(WHOLE - 1))),
        (over_rdma(0, 0), over_rdma(WHOLE, WHOLE - 1)),
        (over_rdma(0, 0), over_rdma(WHOLE - 1, WHOLE)),
        (over_rdma(0, 0, "1: DOWN"), over_rdma(WHOLE, WHOLE, "1: DOWN")),
        (over_rdma(0, 0, None), over_rdma(WHOLE, WHOLE, None)),
        (over_rdma(None, None), over_rdma(None, None)),
        (kernel(), over_rdma(WHOLE, WHOLE)),
    ],
    ids=[
        "nothing", "too little by TCP", "too little received", "too little sent", "ports down", "state not known",
        "no counters", "ports that were not there before",
    ],
)  # fmt: skip
def test_what_no_witness_claims_is_not_known(before: Snapshot, now: Snapshot) -> None:
    assert used(before, now)[0] is None


def test_what_both_claim_is_not_known() -> None:
    ports = over_rdma(WHOLE, WHOLE).kernel
    now = kernel(carrying(WHOLE), rdma={node: ports[node]["rdma"] for node in ports})
    assert used(over_rdma(0, 0), now)[0] is None


def test_ports_of_nodes_without_rdma_count_nothing() -> None:
    before, now = kernel(), kernel(carrying(WHOLE))
    for snapshot in (before, now):
        del snapshot.kernel["one"]["rdma"]
    assert used(before, now)[0] == "tcp"


def test_the_transport_asked_for_is_right() -> None:
    assert transfer.transport_as_asked("tcp", [{"bytes": 1}], "tcp")["witnesses"] == [{"bytes": 1}]


@pytest.mark.parametrize(
    ("transport", "requested", "said", "hint"),
    [
        ("tcp", "rdma", "the KV cache went by tcp, and rdma was asked for", "falls back to TCP in silence"),
        ("rdma", "tcp", "the KV cache went by rdma, and tcp was asked for", "troubleshooting"),
        (
            None,
            "tcp",
            "the KV cache went by no transport that accounts for it (5 bytes over TCP, 0 sent and 0 received",
            "troubleshooting",
        ),
    ],
)
def test_another_transport_is_wrong(transport: str | None, requested: str, said: str, hint: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        transfer.transport_as_asked(transport, used(kernel(), kernel(carrying(5)))[1], requested)
    assert str(caught.value).startswith(said)
    assert hint in caught.value.hint


# ---------------------------------------------------------------- reading


def metrics(sent: int) -> str:
    return (
        f"sglang:kv_transfer_total_mb_sum {sent / 1024 / 1024!r}\n"
        f"sglang:kv_transfer_total_mb_count {min(sent, 1)}\n"
        'sglang:prefill_effective_tokens_total{mode="input"} 13.0\n'
    )


def answer(body: str | None, status: int | None = 200) -> exercise.Exchange:
    return exercise.Exchange("GET", "http://one/metrics", None, status, {}, body, None, 0.1)


def test_a_snapshot_reads_counters_and_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = FakeNodes(SILENT)
    asked: list[str] = []

    def get(url: str, _timeout: float) -> exercise.Exchange:
        asked.append(url)
        return answer(metrics(WHOLE))

    monkeypatch.setattr(exercise, "get", get)
    seen = transfer.snapshot(make_trial(nodes))
    assert asked == ["http://127.0.0.41:30001/metrics", "http://127.0.0.42:30001/metrics"]
    assert seen.counters["prefill"] == Counters(WHOLE, 1, 0, 13, requests=0)
    assert seen.kernel is SILENT
    assert [service.kind for service in nodes.asked[0]["services"]] == ["prefill", "decode"]
    assert nodes.asked[0]["traffic"] is True


@pytest.mark.parametrize(
    "exchange", [answer(None, None), answer(""), answer("oops", 500), answer("<html>"), answer(metrics(1), 404)]
)
def test_counters_that_cannot_be_read_are_unknown(exchange: exercise.Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_COUNTERS_LATE_SECONDS", 0.01)
    monkeypatch.setattr(exercise, "get", lambda _url, _timeout: exchange)
    seen = transfer.snapshot(make_trial(FakeNodes(SILENT)))
    assert seen.counters == {"prefill": UNKNOWN, "decode": UNKNOWN}


def test_the_first_transfer_is_waited_for_before_the_counters_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_POLL_SECONDS", 0.0)
    readings = iter([0, 0, 512, 512])
    monkeypatch.setattr(exercise, "get", lambda _url, _timeout: answer(metrics(next(readings))))
    seen = transfer.snapshot(make_trial(FakeNodes(SILENT)))
    assert seen.counters["prefill"].transferred_bytes == 512


def test_counters_that_come_late_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_POLL_SECONDS", 0.0)
    readings = iter([0, 0, 512, 512, WHOLE, WHOLE])
    monkeypatch.setattr(exercise, "get", lambda _url, _timeout: answer(metrics(next(readings))))
    start = Snapshot({"prefill": Counters(0, 0, 0, 0), "decode": Counters(0, 0, 0, 0)}, SILENT)
    seen = transfer.snapshot_after(make_trial(FakeNodes(SILENT)), start, TOKENS)
    assert seen.counters["prefill"].transferred_bytes == WHOLE


def test_counters_that_never_come_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_COUNTERS_LATE_SECONDS", 0.01)
    monkeypatch.setattr(exercise, "get", lambda _url, _timeout: answer(None, None))
    seen = transfer.snapshot_after(make_trial(FakeNodes(SILENT)), BEFORE, TOKENS)
    assert seen.counters["prefill"] == UNKNOWN
