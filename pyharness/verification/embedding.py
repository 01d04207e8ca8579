"""What the encoder made of a picture travelled to prefill.

A language model that gets no picture answers all the same, and a server with a vision tower of its own needs no
encoder. So three witnesses have to agree: the encoder's counters, the kernel's bytes between the two servers'
processes, and prefill's log, where what went wrong with a picture's way stands first.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.engines import sglang_encoder
from pyharness.kv_cache import dtype_bytes
from pyharness.verification import services, wires
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.wires import Snapshot

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.engines.sglang_encoder import EncoderCounters
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

EMBEDDING: wires.Way = ("encoder", "prefill")
_ANSWER_SECONDS = 10.0
_COUNTERS_LATE_SECONDS = 2.0
_POLL_SECONDS = 0.1
_LOG_LINES = 2000
# sglang 0.5.23, srt/disaggregation/encoder/receiver.py.
_COMPLAINTS = re.compile(
    r"receive failed for rid|Waiting request \S+ failed|to encoder \S+ (failed|timed out)|"
    r"Failed to allocate EmbeddingPool"
)


@dataclass(frozen=True)
class Seen:
    """What had been counted at one moment.

    Attributes:
        encoders: the encoders' counters, by service.
        kernel: the nodes' counts.
    """

    encoders: dict[str, EncoderCounters]
    kernel: Snapshot


def _counters(trial: Trial) -> dict[str, EncoderCounters]:
    result = {}
    for service in trial.deployment.of_kind("encoder"):
        exchange = exercise.get(service.url + sglang_encoder.METRICS_PATH, _ANSWER_SECONDS)
        problem = exchange.problem or f"HTTP {exchange.status}"
        try:
            result[service.name] = sglang_encoder.counters(exchange.body or "")
        except ValueError as error:
            problem = str(error)
        if exchange.status != 200 or service.name not in result:
            if _has_ended(trial, service, exchange):
                raise services.died(trial, service)
            raise CheckFailed(
                f"{service.name} on {service.node} does not say what it has encoded: {problem}",
                {"exchange": exchange.transcript()[:2000]},
                hint=f"read {service.log} on {service.node}",
            )
    return result


def _has_ended(trial: Trial, service: Service, exchange: Exchange) -> bool:
    """Tell whether a service that gave no proper answer has ended; one that broke the connection is about to."""
    deadline = time.monotonic() + (_COUNTERS_LATE_SECONDS if exchange.status is None else 0.0)
    while not trial.nodes.ended([service]):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def snapshot(trial: Trial) -> Seen:
    """Read all counters.

    Raises:
        CheckFailed: an encoder does not say, or has ended.
    """
    return Seen(_counters(trial), Snapshot({}, wires.probe(trial)))


def snapshot_after(trial: Trial, before: Seen) -> Seen:
    """Read all counters after the request, once something that was sent shows in them or has had the time to.

    Raises:
        CheckFailed: an encoder does not say, or has ended.
    """
    deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
    while True:
        now = _counters(trial)
        if any(now[name].sent != then.sent for name, then in before.encoders.items()) or time.monotonic() > deadline:
            return Seen(now, Snapshot({}, wires.probe(trial)))
        time.sleep(_POLL_SECONDS)


def needed_bytes(trial: Trial) -> int | None:
    """Return what the encoder makes of the picture, in bytes; None where the model's shape is not known.

    It has so many tokens as the workload says (`image_tokens`), each as wide as the language model.
    """
    config = trial.deployment.served.config
    if not config or not config.get("hidden_size"):
        return None
    return int(trial.workload["image_tokens"]) * int(config["hidden_size"]) * dtype_bytes(config)


def embedding_moved(trial: Trial, before: Seen, after: Seen, backend: str) -> Evidence:
    """Check that the encoder encoded one picture, and that what it made crossed to prefill.

    Args:
        trial: whose servers.
        before: what had been counted before the request.
        after: what has been counted since.
        backend: how the encoder has to hand over, as SGLang calls it.
    """
    deployment = trial.deployment
    needed = needed_bytes(trial)
    done = {name: _change(then, after.encoders[name], backend) for name, then in before.encoders.items()}
    tcp = wires.tcp_bytes(deployment, before.kernel, after.kernel, EMBEDDING)
    rdma = wires.rdma_bytes(deployment, before.kernel, after.kernel, EMBEDDING)
    evidence: Evidence = {
        "image_tokens": trial.workload["image_tokens"],
        "bytes_needed": needed,
        "encoders": done,
        "tcp_bytes": tcp,
        "rdma": rdma,
    }
    encoded, failed, sent = (sum(entry[key] for entry in done.values()) for key in ("encoded", "failed", "sent"))
    if failed:
        raise CheckFailed(
            f"the encoder failed {failed} request(s)", evidence, hint="see sglang_server_encoder.log in the logs"
        )
    if encoded != 1 or sent < 1:
        raise CheckFailed(
            f"the encoder encoded {encoded} pictures for this request and handed over {sent} by {backend}; it "
            "has to be 1 of each",
            evidence,
            hint="prefill has to be started with the encoder's URL, and the request has to hold a picture",
        )
    by_rdma = min(rdma["sent"], rdma["received"]) if rdma["active_ports"] else 0
    # Over ZeroMQ it is TCP in any case; by Mooncake it is what was asked for, and the KV cache's check says which.
    carried = max(tcp or 0, by_rdma if backend == "mooncake" else 0)
    if carried < (needed or 1):
        raise CheckFailed(
            f"{carried} bytes went from the encoder to prefill, and what it made of the picture has {needed or 'some'}",
            evidence,
            hint="see the encoder's and prefill's logs for the transfer",
        )
    return evidence


def _change(then: EncoderCounters, now: EncoderCounters, backend: str) -> dict[str, Any]:
    return {
        "encoded": now.encoded - then.encoded,
        "failed": now.failed - then.failed,
        "forwards": now.forwards - then.forwards,
        "sent": now.sent.get(backend, 0) - then.sent.get(backend, 0),
    }


def embedding_received(trial: Trial) -> Evidence:
    """Check that prefill had nothing to complain of about what it takes from encoders."""
    for service in trial.deployment.of_kind("prefill"):
        lines = [line for line in trial.nodes.log_tail(service, _LOG_LINES) if _COMPLAINTS.search(line)]
        if lines:
            raise CheckFailed(
                f"{service.name} on {service.node} did not take what the encoder made as it should:\n"
                + "\n".join(lines[-5:]),
                {"service": service.name, "lines": lines},
                hint=f"read {service.log} on {service.node}",
            )
    return {"complaints": 0, "log_lines": _LOG_LINES}
