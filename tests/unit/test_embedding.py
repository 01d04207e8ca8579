"""Did what the encoder made reach prefill: counts built by hand, one wrong thing at a time."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness import exercise
from pyharness.engines.sglang_encoder import EncoderCounters, counters
from pyharness.exercise import Exchange
from pyharness.verification import embedding
from pyharness.verification.base import CheckFailed, Trial
from pyharness.verification.embedding import Seen
from pyharness.verification.transfer import Snapshot
from tests.unit.builders import PIDS, FakeNodes, make_deployment, make_service, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# 144 tokens, 64 wide, of 4 bytes.
NEEDED = 144 * 64 * 4
CONFIG = {"hidden_size": 64, "dtype": "float32"}
METRICS = """
sglang:encoder_requests_total{modality="image",status="success"} 3.0
sglang:encoder_requests_total{modality="image",status="error"} 1.0
sglang:encoder_model_forward_seconds_count{modality="image"} 3.0
sglang:encoder_transfer_seconds_count{backend="zmq_to_scheduler"} 2.0
sglang:encoder_cache_entries 3.0
"""
METRICS_PATH = "http://127.0.0.42:31101/metrics"


class Logs(FakeNodes):
    """Nodes with a log."""

    lines: tuple[str, ...] = ()

    def log_tail(self, service: Any, lines: int = 20) -> list[str]:
        del service
        return list(self.lines)[-lines:]


def trial(nodes: FakeNodes | None = None, config: dict[str, Any] | None = CONFIG) -> Trial:
    PIDS.setdefault("encoder", 104)
    encoder = make_service("encoder", node="two", address="127.0.0.42", port=31101, url="http://127.0.0.42:31101")
    deployment = make_deployment(
        services=[make_service(kind).model_dump() for kind in ("prefill", "router", "decode")] + [encoder.model_dump()],
        model={"name": "org/model", "path": "/model", "revision": None, "config": config, "stand_in": None},
        workload={"image_tokens": 144},
    )
    return make_trial(nodes or FakeNodes({}), deployment)


def kernel(tcp: int = 0, rdma: int | None = None) -> Snapshot:
    """Return what both nodes count: bytes of the connection from encoder to prefill, and of their RDMA ports."""
    sender = {"address": "127.0.0.42", "port": 40000, "remote_address": "127.0.0.41", "remote_port": 41000}
    receiver = {"address": "127.0.0.41", "port": 41000, "remote_address": "127.0.0.42", "remote_port": 40000}
    port = {"device": "erdma_0", "port": 1, "state": "4: ACTIVE"}
    ports = {"one": {**port, "sent": 0, "received": rdma}, "two": {**port, "sent": rdma, "received": 0}}
    found: dict[str, Any] = {
        "one": {"services": {"prefill": {"connections": [{**receiver, "bytes_sent": 0, "bytes_received": tcp}]}}},
        "two": {"services": {"encoder": {"connections": [{**sender, "bytes_sent": tcp, "bytes_received": 0}]}}},
    }
    for node, counted in found.items():
        counted["rdma"] = [] if rdma is None else [ports[node]]
    return Snapshot({}, found)


def seen(
    encoded: int = 0, *, sent: int = 0, failed: int = 0, view: Snapshot | None = None, by: str = "zmq_to_scheduler"
) -> Seen:
    return Seen({"encoder": EncoderCounters(encoded, failed, encoded, {by: sent})}, view or kernel())


def refused(after: Seen, backend: str = "zmq_to_scheduler", before: Seen | None = None) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        embedding.embedding_moved(trial(), before or seen(5, sent=5), after, backend)
    return caught.value


def test_one_picture_encoded_and_carried() -> None:
    after = seen(6, sent=6, view=kernel(NEEDED))
    evidence = embedding.embedding_moved(trial(), seen(5, sent=5), after, "zmq_to_scheduler")
    assert evidence["bytes_needed"] == evidence["tcp_bytes"] == NEEDED
    assert evidence["encoders"] == {"encoder": {"encoded": 1, "failed": 0, "forwards": 1, "sent": 1}}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (seen(5, sent=5, view=kernel(NEEDED)), "encoded 0 pictures for this request and handed over 0"),
        (seen(6, sent=5, view=kernel(NEEDED)), "encoded 1 pictures for this request and handed over 0"),
        (seen(7, sent=7, view=kernel(NEEDED)), "encoded 2 pictures"),
        (seen(6, sent=6, view=kernel(NEEDED - 1)), f"{NEEDED - 1} bytes went from the encoder to prefill"),
        (seen(6, sent=6), "0 bytes went from the encoder to prefill, and what it made of the picture has 36864"),
        (seen(6, sent=6, failed=1, view=kernel(NEEDED)), "the encoder failed 1 request(s)"),
        (seen(6, sent=6, by="mooncake", view=kernel(NEEDED)), "handed over -5 by zmq_to_scheduler"),
    ],
    ids=["not asked", "not sent", "twice", "too little", "nothing", "failed", "another backend"],
)
def test_what_is_missing_is_told(after: Seen, said: str) -> None:
    assert said in str(refused(after))


def test_rdma_counts_where_mooncake_carries_it() -> None:
    before, after = (
        seen(by="mooncake", view=kernel(rdma=10)),
        seen(1, sent=1, by="mooncake", view=kernel(rdma=NEEDED + 10)),
    )
    assert embedding.embedding_moved(trial(), before, after, "mooncake")["rdma"]["sent"] == NEEDED
    # ZeroMQ knows TCP only: what RDMA ports have carried meanwhile is something else.
    after = seen(1, sent=1, view=kernel(rdma=NEEDED + 10))
    assert "0 bytes went" in str(refused(after, before=seen(view=kernel(rdma=10))))


def test_without_the_models_shape_any_bytes_count() -> None:
    subject = trial(config=None)
    assert embedding.embedding_moved(subject, seen(), seen(1, sent=1, view=kernel(1)), "zmq_to_scheduler")
    with pytest.raises(CheckFailed, match="0 bytes went"):
        embedding.embedding_moved(subject, seen(), seen(1, sent=1), "zmq_to_scheduler")


@pytest.mark.parametrize(
    "line",
    [
        "[2026] RDMA receive failed for rid=1: Torch not compiled with CUDA enabled",
        "[2026] Waiting request 1 failed: timed out",
        "[2026] Request 0 to encoder /scheduler_receive_url failed for req_id=1: refused",
        "[2026] Failed to allocate EmbeddingPool, falling back to per-request register",
    ],
)
def test_what_prefill_complains_of_is_told(line: str) -> None:
    nodes = Logs({})
    nodes.lines = ("[2026] Dispatching 1 mm items", line)
    with pytest.raises(CheckFailed) as caught:
        embedding.embedding_received(trial(nodes))
    assert line in str(caught.value).splitlines()


def test_a_log_without_complaints() -> None:
    nodes = Logs({})
    nodes.lines = ("[2026] Dispatching 1 mm items to 1 encoder(s)", "[2026] Prefill batch")
    assert embedding.embedding_received(trial(nodes))["complaints"] == 0


# ---------------------------------------------------------------- reading


def test_an_encoders_counters_are_read() -> None:
    assert counters(METRICS) == EncoderCounters(encoded=3, failed=1, forwards=3, sent={"zmq_to_scheduler": 2})
    assert counters("") == EncoderCounters(0, 0, 0, {})


@pytest.mark.parametrize("metrics", ["<html>", 'sglang:encoder_requests_total{status="success"} +Inf'])
def test_what_is_no_metrics_is_refused(metrics: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        counters(metrics)


def answering(monkeypatch: pytest.MonkeyPatch, *bodies: str, status: int = 200) -> None:
    left = list(bodies)

    def get(url: str, _timeout: float) -> Exchange:
        assert url == METRICS_PATH
        return Exchange("GET", url, None, status, {}, left.pop(0) if len(left) > 1 else left[0], None, 0.1)

    monkeypatch.setattr(exercise, "get", get)


def test_a_snapshot_asks_encoder_and_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, METRICS)
    nodes = FakeNodes(kernel(7).kernel)
    found = embedding.snapshot(trial(nodes))
    assert found.encoders["encoder"].encoded == 3
    assert [service.kind for service in nodes.asked[0]["services"]] == ["prefill", "decode", "encoder"]


def test_counts_that_come_late_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_POLL_SECONDS", 0.0)
    answering(monkeypatch, METRICS, METRICS, METRICS.replace("} 2.0", "} 3.0"))
    subject = trial(FakeNodes(kernel().kernel))
    before = embedding.snapshot(subject)
    assert embedding.snapshot_after(subject, before).encoders["encoder"].sent == {"zmq_to_scheduler": 3}


def test_counts_that_never_come_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_COUNTERS_LATE_SECONDS", 0.01)
    answering(monkeypatch, METRICS)
    subject = trial(FakeNodes(kernel().kernel))
    assert embedding.snapshot_after(subject, embedding.snapshot(subject)).encoders["encoder"].encoded == 3


def test_an_encoder_that_has_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, METRICS, status=500)
    nodes = Logs(kernel().kernel, dead=["encoder"])
    with pytest.raises(CheckFailed, match=r"service encoder on two \(pid 104\) has ended"):
        embedding.snapshot(trial(nodes))


def test_an_encoder_that_breaks_the_connection_is_given_the_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: a killed process resets its connections before it is gone."""

    class Ending(Logs):
        left = 3

        def ended(self, services: Any) -> list[Any]:
            self.left -= 1
            return [] if self.left else list(services)

    broke = Exchange("GET", METRICS_PATH, None, None, {}, None, "connection broke", 0.1)
    monkeypatch.setattr(exercise, "get", lambda _url, _timeout: broke)
    monkeypatch.setattr(embedding, "_POLL_SECONDS", 0.0)
    with pytest.raises(CheckFailed, match="service encoder on two"):
        embedding.snapshot(trial(Ending(kernel().kernel)))


@pytest.mark.parametrize(("body", "status"), [("<html>", 200), (METRICS, 500)])
def test_an_encoder_that_does_not_say(monkeypatch: pytest.MonkeyPatch, body: str, status: int) -> None:
    answering(monkeypatch, body, status=status)
    with pytest.raises(CheckFailed, match="encoder on two does not say what it has encoded"):
        embedding.snapshot(trial(FakeNodes(kernel().kernel)))
