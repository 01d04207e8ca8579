"""SGLang's hierarchical cache: where a prompt's tokens came from, and what was kept.

Names read in sglang 0.5.23: `srt/managers/tokenizer_manager.py` (the answer of /generate with --enable-cache-report),
`srt/observability/metrics_collector.py` (/metrics), `srt/entrypoints/http_server.py` (/server_info, /flush_cache).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

FLUSH_PATH = "/flush_cache"

_CACHED = "sglang:cached_tokens_total"
_TO_HOST = "sglang:hicache_backup_tokens_total"
_TO_STORAGE = "sglang:backuped_tokens_total"


@dataclass(frozen=True)
class CachedTokens:
    """Tokens of one prompt that were not computed, by where they were found.

    Attributes:
        device: in the KV cache on the device.
        host: in the host's memory.
        storage: in the storage behind it.
        backend: what the server says the storage is; None where it does not say.
    """

    device: int
    host: int
    storage: int
    backend: str | None

    @property
    def total(self) -> int:
        """All that was not computed."""
        return self.device + self.host + self.storage


@dataclass(frozen=True)
class CacheCounters:
    """What a server has counted since its start.

    Attributes:
        from_storage: prompt tokens that came from the storage.
        to_host: tokens that were copied to the host's memory. Each rank counts all of them; the highest count is taken.
        to_storage: tokens that were written to the storage, likewise. With MLA one rank writes for all.
    """

    from_storage: int
    to_host: int
    to_storage: int


def cached_tokens(document: Any) -> CachedTokens:
    """Read from an answer of /generate what was found in which cache.

    Raises:
        ValueError: it does not say.
    """
    meta = document.get("meta_info") if isinstance(document, dict) else None
    total = meta.get("cached_tokens") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(total, int):
        raise ValueError(f"the answer does not say how many tokens were cached: {str(document)[:300]}")
    details = meta.get("cached_tokens_details")
    if details is None:
        # The server leaves the details out where there is nothing to tell.
        if total:
            raise ValueError(f"{total} tokens were cached, and the answer does not say where (--enable-cache-report)")
        return CachedTokens(0, 0, 0, None)
    if not isinstance(details, dict):
        raise ValueError(f"cached_tokens_details is {str(details)[:300]}")
    device, host, storage = (details.get(place, 0) for place in ("device", "host", "storage"))
    if not all(isinstance(count, int) for count in (device, host, storage)):
        raise ValueError(f"cached_tokens_details holds something else than numbers: {str(details)[:300]}")
    return CachedTokens(device, host, storage, details.get("storage_backend"))


def cache_counters(metrics: str) -> CacheCounters:
    """Read /metrics. What no sample stands for is 0 once there are samples of SGLang's at all.

    Raises:
        ValueError: this is not the Prometheus text format, or holds nothing of SGLang's.
    """
    found: dict[str, list[float]] = {_CACHED: [], _TO_HOST: [], _TO_STORAGE: []}
    seen = False
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            seen = seen or sample.name.startswith("sglang:")
            other_source = sample.name == _CACHED and sample.labels.get("cache_source") != "storage"
            other_pool = sample.name == _TO_HOST and sample.labels.get("pool") != "kv"
            if sample.name in found and not other_source and not other_pool:
                found[sample.name].append(sample.value)
    if not seen:
        raise ValueError("/metrics holds no counter of SGLang's")
    try:
        return CacheCounters(
            from_storage=round(sum(found[_CACHED])),
            to_host=round(max(found[_TO_HOST], default=0)),
            to_storage=round(max(found[_TO_STORAGE], default=0)),
        )
    except OverflowError as error:
        raise ValueError("/metrics holds an infinite counter") from error
