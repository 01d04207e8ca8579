"""What Mooncake's master knows of a KV cache that SGLang's hierarchical cache keeps in Mooncake Store.

The master's HTTP door: `/get_all_keys` (one key a line) and `/metrics` (Prometheus). Names seen in Mooncake 0.3.13.

A key is `MODEL_HASH_PART`: the model's name with - for /, the SHA-256 of the page and of all before it, and which part
of the page it is. `0_k` and `0_v` are rank 0's keys and values; `_k` is the latent cache that all ranks share (MLA).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from pyharness import exercise
from pyharness.verification import blame
from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyharness.verification.base import Trial

_DOOR_SECONDS = 10.0
_POLL_SECONDS = 0.1
_KEY = re.compile(r"^(?P<model>.+?)_(?P<page>[0-9a-f]{64})_(?P<part>.*)$")
_HIT_BYTES = "mem_cache_hit_bytes_total"
_READ_OBJECTS = ("master_get_replica_list_requests_total", "master_batch_get_replica_list_items_total")
_WRITTEN_OBJECTS = ("master_put_end_requests_total", "master_batch_put_end_items_total")


@dataclass(frozen=True)
class MasterCounters:
    """What the master has counted since its start.

    Attributes:
        hit_bytes: bytes of the objects that clients asked for and that it had.
        read: objects that clients asked for.
        written: objects that clients had written.
    """

    hit_bytes: int
    read: int
    written: int


def counters(trial: Trial) -> MasterCounters:
    """Read the master's metrics.

    Raises:
        CheckFailed: it does not give them.
    """
    url = _master(trial) + "/metrics"
    text = _read(trial, url)
    try:
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return MasterCounters(
            hit_bytes=round(totals[_HIT_BYTES]),
            read=round(sum(totals[name] for name in _READ_OBJECTS)),
            written=round(sum(totals[name] for name in _WRITTEN_OBJECTS)),
        )
    except (ValueError, KeyError, OverflowError) as error:
        raise CheckFailed(
            f"{url} does not have the counters that this version of the harness reads: {error}",
            {"url": url, "metrics": text[:2000]},
            hint="Mooncake has renamed its metrics: adapt pyharness/verification/storage.py",
            class_="test",
        ) from error


def pages(trial: Trial) -> dict[str, set[str]]:
    """Return the pages of the deployed model that the master has, and the parts that it has of each.

    Raises:
        CheckFailed: it does not answer.
    """
    model = trial.deployment.served.name.replace("/", "-")
    found: dict[str, set[str]] = {}
    for line in _read(trial, _master(trial) + "/get_all_keys").splitlines():
        match = _KEY.match(line.strip())
        if match and match["model"] == model:
            found.setdefault(match["page"], set()).add(match["part"])
    return found


def parts_of_a_page(found: Iterable[set[str]], ranks: int) -> int:
    """Return of how many parts a whole page is: keys and values of each rank, or the latent cache once."""
    return 2 * ranks if any(part.endswith("_v") for parts in found for part in parts) else 1


def wait_for_pages(trial: Trial, before: dict[str, set[str]], count: int, ranks: int) -> dict[str, set[str]]:
    """Wait until the master has so many whole pages more than before. SGLang writes them in its own time.

    Args:
        trial: whose master. Its workload says how long to wait (`storage_timeout`, seconds).
        before: the pages that it had.
        count: how many pages have to come.
        ranks: over how many ranks the model is split.

    Raises:
        CheckFailed: they have not come in time, or the master does not answer.
    """
    limit = float(trial.workload["storage_timeout"])
    deadline = time.monotonic() + limit
    while True:
        new = {page: parts for page, parts in pages(trial).items() if page not in before}
        wanted = parts_of_a_page(new.values(), ranks)
        whole = [page for page, parts in new.items() if len(parts) == wanted]
        if len(whole) >= count and len(whole) == len(new):
            return new
        if time.monotonic() > deadline:
            raise CheckFailed(
                f"the master has {len(whole)} whole pages of {trial.deployment.served.name} {limit:g} s after the "
                f"request, and the prompt has {count}",
                {"whole_pages": len(whole), "expected_pages": count, "parts": {p: sorted(s) for p, s in new.items()}},
                hint="see the server's log for 'Write page to storage', and the master's for what it evicted",
            )
        time.sleep(_POLL_SECONDS)


def _master(trial: Trial) -> str:
    return trial.deployment.of_kind("master")[0].url


def _read(trial: Trial, url: str) -> str:
    exchange = exercise.get(url, _DOOR_SECONDS)
    if exchange.status != 200 or exchange.body is None:
        blame.failed_request(trial, exchange)
        raise CheckFailed(
            f"the master does not answer {url}: {exchange.problem or f'HTTP {exchange.status}'}",
            {"exchange": exchange.transcript()},
            hint="read the master's log; a copy is in the results' logs folder",
        )
    return exchange.body
