"""What SGLang says of its caches is read as it is meant, and what it does not say is not guessed."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness.engines.sglang_cache import CacheCounters, CachedTokens, cache_counters, cached_tokens

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.sglang]

# As sglang 0.5.23 gave it.
METRICS = """# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{cache_source="device",engine_type="unified",model_name="m"} 384.0
sglang:cached_tokens_total{cache_source="storage",engine_type="unified",model_name="m"} 320.0
# TYPE sglang:hicache_backup_tokens_total counter
sglang:hicache_backup_tokens_total{cache_type="UnifiedRadixCache",dp_rank="0",pool="kv",pp_rank="0",tp_rank="0"} 448.0
sglang:hicache_backup_tokens_total{cache_type="UnifiedRadixCache",dp_rank="0",pool="kv",pp_rank="0",tp_rank="1"} 448.0
sglang:hicache_backup_tokens_total{cache_type="UnifiedRadixCache",dp_rank="0",pool="mamba",pp_rank="0",tp_rank="0"} 9.0
# TYPE sglang:backuped_tokens_total counter
sglang:backuped_tokens_total{storage_backend="mooncake",tp_rank="0"} 448.0
sglang:backuped_tokens_total{storage_backend="mooncake",tp_rank="1"} 0.0
"""


def answered(**meta: Any) -> dict[str, Any]:
    return {"text": "x", "meta_info": {"prompt_tokens": 386, **meta}}


def test_where_the_tokens_of_a_prompt_were_found() -> None:
    details = {"device": 64, "host": 128, "storage": 192, "storage_backend": "MooncakeStore"}
    found = cached_tokens(answered(cached_tokens=384, cached_tokens_details=details))

    assert found == CachedTokens(64, 128, 192, "MooncakeStore")
    assert found.total == 384


def test_nothing_was_cached() -> None:
    assert cached_tokens(answered(cached_tokens=0, cached_tokens_details=None)).total == 0


def test_a_server_without_a_storage_has_none_to_tell_of() -> None:
    found = cached_tokens(answered(cached_tokens=64, cached_tokens_details={"device": 64, "host": 0}))

    assert found == CachedTokens(64, 0, 0, None)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "does not say how many"),
        ({"text": "x"}, "does not say how many"),
        (answered(), "does not say how many"),
        (answered(cached_tokens=5), "does not say where"),
        (answered(cached_tokens=5, cached_tokens_details=[5]), "cached_tokens_details is"),
        (answered(cached_tokens=5, cached_tokens_details={"device": "5"}), "something else than numbers"),
    ],
)
def test_an_answer_that_does_not_say(document: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        cached_tokens(document)


def test_counters_of_two_ranks_of_which_one_writes_for_both() -> None:
    assert cache_counters(METRICS) == CacheCounters(from_storage=320, to_host=448, to_storage=448)


def test_counters_that_have_not_moved_yet_have_no_sample() -> None:
    assert cache_counters("sglang:num_running_reqs 0\n") == CacheCounters(0, 0, 0)


@pytest.mark.parametrize("text", ["", "other 1\n", "sglang:backuped_tokens_total +Inf\n"])
def test_metrics_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="metrics"):
        cache_counters(text)
