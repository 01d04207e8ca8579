"""The simulated counters, in SGLang's names and form."""

import time

import pytest

from pyharness.simulator.metrics import Metrics

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

RANKS = 'moe_ep_rank="0",pp_rank="0",tp_rank="0"'


def test_a_fresh_engine_shows_only_the_seeded_zeros() -> None:
    samples = [line for line in Metrics("tiny", "decode").render().splitlines() if not line.startswith("#")]
    name = "sglang:prefill_effective_tokens_total"
    assert samples == [
        f'{name}{{engine_type="decode",mode="{mode}",model_name="tiny",{RANKS}}} 0.0'
        for mode in ("input", "device_hit", "host_hit", "storage_hit")
    ]


def test_a_transfer_is_counted_in_mebibytes_and_milliseconds() -> None:
    metrics = Metrics("tiny", "prefill")
    metrics.transferred(8320, 0.0015)
    metrics.transferred(3 * 1024 * 1024, 0.5)
    lines = metrics.render().splitlines()
    labels = f'{{engine_type="prefill",model_name="tiny",{RANKS}}}'
    assert "# TYPE sglang:kv_transfer_total_mb histogram" in lines
    assert f"sglang:kv_transfer_total_mb_sum{labels} 3.0079345703125" in lines
    assert f"sglang:kv_transfer_total_mb_count{labels} 2.0" in lines
    assert f"sglang:kv_transfer_latency_ms_sum{labels} 501.5" in lines
    buckets = [line for line in lines if line.startswith("sglang:kv_transfer_total_mb_bucket")]
    assert buckets[0].endswith(f'{{engine_type="prefill",le="1.0",model_name="tiny",{RANKS}}} 1.0')
    assert buckets[1].endswith(f'{{engine_type="prefill",le="5.0",model_name="tiny",{RANKS}}} 2.0')
    assert buckets[-1].endswith(f'{{engine_type="prefill",le="+Inf",model_name="tiny",{RANKS}}} 2.0')


def test_failures_computations_and_requests_are_counted() -> None:
    metrics = Metrics("tiny", "single")
    metrics.transfer_failed()
    metrics.computed(tokens=3, cached=10)
    metrics.computed(tokens=1)
    metrics.finished(prompt=13, generated=20, cached=12, streaming=True)
    metrics.finished(prompt=13, generated=20, cached=0, streaming=False)
    lines = metrics.render().splitlines()
    scheduler = f'engine_type="unified",model_name="tiny",{RANKS}'
    assert f"sglang:num_transfer_failed_reqs_total{{{scheduler}}} 1.0" in lines
    for mode, count in (("input", 4.0), ("device_hit", 10.0)):
        labels = f'engine_type="unified",mode="{mode}",model_name="tiny",{RANKS}'
        assert f"sglang:prefill_effective_tokens_total{{{labels}}} {count}" in lines
    for streaming in ("true", "false"):
        labels = f'{{engine_type="unified",is_streaming="{streaming}",model_name="tiny"}}'
        assert f"sglang:prompt_tokens_total{labels} 13.0" in lines
        assert f"sglang:generation_tokens_total{labels} 20.0" in lines
        assert f"sglang:num_requests_total{labels} 1.0" in lines
    cached = 'sglang:cached_tokens_total{cache_source="device",engine_type="unified",model_name="tiny"} 12.0'
    assert cached in lines


def test_labels_are_escaped() -> None:
    metrics = Metrics('a"b\\c', "prefill")
    assert r'model_name="a\"b\\c"' in metrics.render()


def test_late_counters_come_late() -> None:
    metrics = Metrics("tiny", "prefill", delay=0.2)
    metrics.transferred(8320, 0.001)
    assert "kv_transfer_total_mb" not in metrics.render(), "counted at once"
    deadline = time.monotonic() + 10
    while "kv_transfer_total_mb_sum" not in metrics.render():
        assert time.monotonic() < deadline, f"never counted; last seen: {metrics.render()}"
        time.sleep(0.01)
