"""SGLang's encoder of pictures: what it counts. Names read in sglang 0.5.23, srt/observability/metrics_collector.py."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_REQUESTS = "sglang:encoder_requests_total"
_FORWARDS = "sglang:encoder_model_forward_seconds_count"
_TRANSFERS = "sglang:encoder_transfer_seconds_count"
METRICS_PATH = "/metrics"


@dataclass(frozen=True)
class EncoderCounters:
    """What an encoder has done since its start. Its health checks encode a picture too and are not counted.

    Attributes:
        encoded: requests that it encoded.
        failed: requests that it failed.
        forwards: how often its vision tower ran.
        sent: how often it handed over what it made, by the backend that did.
    """

    encoded: int
    failed: int
    forwards: int
    sent: dict[str, int]


def counters(metrics: str) -> EncoderCounters:
    """Read an encoder's metrics. A counter that is not there yet has counted nothing.

    Args:
        metrics: the answer of /metrics.

    Raises:
        ValueError: they are not in the Prometheus text format.
    """
    encoded = failed = forwards = 0
    sent: dict[str, int] = {}
    try:
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                if sample.name == _REQUESTS and sample.labels.get("status") == "success":
                    encoded += round(sample.value)
                elif sample.name == _REQUESTS:
                    failed += round(sample.value)
                elif sample.name == _FORWARDS:
                    forwards += round(sample.value)
                elif sample.name == _TRANSFERS:
                    backend = sample.labels.get("backend", "")
                    sent[backend] = sent.get(backend, 0) + round(sample.value)
    except OverflowError as error:
        raise ValueError("/metrics holds an infinite counter") from error
    return EncoderCounters(encoded, failed, forwards, sent)
