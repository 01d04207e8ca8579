"""The counters behind ``/metrics``, with SGLang's names, labels and text format.

Names, labels, buckets and help texts are those of SGLang 0.5.23 (``srt/observability/metrics_collector.py``).
As there, a series with labels appears with its first update; only ``prefill_effective_tokens_total`` is
seeded with zeros. Labels come out sorted, as ``prometheus_client`` writes them.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyharness.simulator.misbehaviour import DECODE, PREFILL

_TRANSFER_MB: Final = "sglang:kv_transfer_total_mb"
_TRANSFER_MS: Final = "sglang:kv_transfer_latency_ms"
_TRANSFER_SPEED: Final = "sglang:kv_transfer_speed_gb_s"
_TRANSFER_FAILED: Final = "sglang:num_transfer_failed_reqs_total"
_EFFECTIVE: Final = "sglang:prefill_effective_tokens_total"
_PROMPT: Final = "sglang:prompt_tokens_total"
_GENERATION: Final = "sglang:generation_tokens_total"
_CACHED: Final = "sglang:cached_tokens_total"
_REQUESTS: Final = "sglang:num_requests_total"

_HELP: Final[dict[str, str]] = {
    _TRANSFER_MB: "Histogram of KV cache transfer size in MB.",
    _TRANSFER_MS: "Histogram of KV cache transfer latency in ms.",
    _TRANSFER_SPEED: "Histogram of KV cache transfer speed in GB/s.",
    _TRANSFER_FAILED: "The number of transfer failed requests.",
    _EFFECTIVE: ("Effective prefill tokens with retracted-request re-counts excluded, updated on each log interval."),
    _PROMPT: "Number of prefill tokens processed.",
    _GENERATION: "Number of generation tokens processed.",
    _CACHED: "Number of cached prompt tokens by source (device/host/storage).",
    _REQUESTS: "Number of requests processed.",
}
_BUCKETS: Final[dict[str, tuple[float, ...]]] = {
    _TRANSFER_MB: (1, 5, 10, 50, 100, 500, 1000, 5000, 10000),
    _TRANSFER_MS: (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000),
    _TRANSFER_SPEED: (0.1, 0.5, 1, 5, 10, 25, 50, 100, 200, 400),
}

_Labels = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    """The observations of one series."""

    bounds: Sequence[float]
    total: float = 0.0
    counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.total += value
        for place, bound in enumerate((*self.bounds, float("inf"))):
            self.counts[place] += value <= bound


class Metrics:
    """The metrics of one server."""

    def __init__(self, model_name: str, role: str, delay: float = 0.0) -> None:
        """Begin at zero.

        Args:
            model_name: Label ``model_name``.
            role: The server's role, for the label ``engine_type``.
            delay: Seconds by which every update lags (misbehaviour ``late-counters``).
        """
        engine_type = role if role in (PREFILL, DECODE) else "unified"
        self._tokenizer = {"model_name": model_name, "engine_type": engine_type}
        self._scheduler = self._tokenizer | {"tp_rank": "0", "pp_rank": "0", "moe_ep_rank": "0"}
        self._delay = delay
        self._lock = threading.Lock()
        self._counters: dict[str, dict[_Labels, float]] = {}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {}
        for mode in ("input", "device_hit", "host_hit", "storage_hit"):
            self._add(_EFFECTIVE, self._scheduler | {"mode": mode}, 0)

    def computed(self, *, tokens: int, cached: int = 0) -> None:
        """Count a prefill computation.

        Args:
            tokens: Prompt tokens that were computed.
            cached: Prompt tokens that came from the prefix cache instead.
        """
        self._later(lambda: self._computed(tokens, cached))

    def transferred(self, byte_count: int, seconds: float) -> None:
        """Count a KV cache that prefill sent."""
        self._later(lambda: self._transferred(byte_count, seconds))

    def transfer_failed(self) -> None:
        """Count a KV cache that could not be sent or did not come."""
        self._later(lambda: self._add(_TRANSFER_FAILED, self._scheduler, 1))

    def finished(self, *, prompt: int, generated: int, cached: int, streaming: bool) -> None:
        """Count a finished inference request, with its tokens."""
        self._later(lambda: self._finished(prompt, generated, cached, "true" if streaming else "false"))

    def render(self) -> str:
        """Give the metrics in Prometheus' text format 0.0.4."""
        lines: list[str] = []
        with self._lock:
            for name, series in self._counters.items():
                lines += (f"# HELP {name} {_HELP[name]}", f"# TYPE {name} counter")
                lines += (f"{name}{_label_text(labels)} {value}" for labels, value in series.items())
            for name, histograms in self._histograms.items():
                lines += (f"# HELP {name} {_HELP[name]}", f"# TYPE {name} histogram")
                for labels, histogram in histograms.items():
                    lines += _histogram_lines(name, labels, histogram)
        return "\n".join(lines) + "\n"

    def _later(self, update: Callable[[], None]) -> None:
        if not self._delay:
            update()
            return
        timer = threading.Timer(self._delay, update)
        timer.daemon = True
        timer.start()

    def _computed(self, tokens: int, cached: int) -> None:
        for mode, count in (("input", tokens), ("device_hit", cached)):
            if count:
                self._add(_EFFECTIVE, self._scheduler | {"mode": mode}, count)

    def _transferred(self, byte_count: int, seconds: float) -> None:
        mebibytes = byte_count / (1024 * 1024)
        self._observe(_TRANSFER_MS, seconds * 1000)
        self._observe(_TRANSFER_MB, mebibytes)
        self._observe(_TRANSFER_SPEED, mebibytes / 1024 / seconds)

    def _finished(self, prompt: int, generated: int, cached: int, streaming: str) -> None:
        labels = self._tokenizer | {"is_streaming": streaming}
        self._add(_PROMPT, labels, prompt)
        self._add(_GENERATION, labels, generated)
        if cached:
            self._add(_CACHED, self._tokenizer | {"cache_source": "device"}, cached)
        self._add(_REQUESTS, labels, 1)

    def _add(self, name: str, labels: Mapping[str, str], count: int) -> None:
        key = tuple(sorted(labels.items()))
        with self._lock:
            series = self._counters.setdefault(name, {})
            series[key] = series.get(key, 0.0) + count

    def _observe(self, name: str, value: float) -> None:
        key = tuple(sorted(self._scheduler.items()))
        with self._lock:
            series = self._histograms.setdefault(name, {})
            series.setdefault(key, _Histogram(_BUCKETS[name])).observe(value)


def _label_text(labels: _Labels) -> str:
    escaped = ((name, value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _histogram_lines(name: str, labels: _Labels, histogram: _Histogram) -> list[str]:
    bounds = [str(float(bound)) for bound in histogram.bounds] + ["+Inf"]
    buckets = (
        f"{name}_bucket{_label_text(tuple(sorted((*labels, ('le', bound)))))} {float(count)}"
        for bound, count in zip(bounds, histogram.counts, strict=True)
    )
    count = f"{name}_count{_label_text(labels)} {float(histogram.counts[-1])}"
    return [*buckets, count, f"{name}_sum{_label_text(labels)} {histogram.total}"]
