"""SGLang's hierarchical cache with Mooncake Store behind it: its settings, its counters, and how to empty it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.engines import sglang_cache
from pyharness.verification import blame, server_info
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.engines.sglang_cache import CacheCounters
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

POLL_SECONDS = 0.1
READ_THE_LOG = "the whole exchange is in curl_response.log; the server's own words are in the log beside it"

_METRICS_SECONDS = 10.0
# Pages are written in batches; a pause that long is an end.
_SETTLED_SECONDS = 3.0


def variant(trial: Trial) -> dict[str, Any]:
    """Return what the deployed variant sets."""
    chosen = trial.case.variant(trial.deployment.variant)
    return chosen.values if chosen else {}


def server(trial: Trial) -> Service:
    """Return the server."""
    return trial.deployment.of_kind("single")[0]


def ranks(trial: Trial) -> int:
    """Return over how many ranks the server splits the model."""
    command = server(trial).command
    return int(command[command.index("--tp-size") + 1]) if "--tp-size" in command[:-1] else 1


def cache_as_asked(trial: Trial) -> Evidence:
    """Check that the server has the cache that the variant asks for, by its own account once it runs."""
    values, said = variant(trial), server_info.read(server(trial))
    wanted = {
        "enable_hierarchical_cache": True,
        "hicache_storage_backend": "mooncake",
        "hicache_mem_layout": values["layout"],
        "hicache_io_backend": values["io_backend"],
        "page_size": trial.workload["page_size"],
    }
    evidence = {name: said.get(name) for name in wanted}
    other = [name for name, value in wanted.items() if said.get(name) != value]
    if other:
        told = "; ".join(f"{name} is {said.get(name)!r}, and {wanted[name]!r} was asked for" for name in other)
        raise CheckFailed(
            f"the server took other settings than it was given, and went on: {told}",
            evidence,
            hint=f"see in {server(trial).log} what it says of it",
        )
    return evidence


def counters(trial: Trial) -> CacheCounters:
    """Read the server's counters.

    Raises:
        CheckFailed: it does not give them.
    """
    exchange = exercise.get(server(trial).url + trial.engine.metrics_path, _METRICS_SECONDS)
    try:
        return sglang_cache.cache_counters(exchange.body or "")
    except ValueError as error:
        raise CheckFailed(
            f"{exchange.url} cannot be read: {exchange.problem or error}",
            {"exchange": exchange.transcript()[:2000]},
            hint=READ_THE_LOG,
        ) from error


def flush(trial: Trial) -> Exchange:
    """Have the server forget what device and host hold; it waits until it is idle.

    Raises:
        CheckFailed: it refused.
    """
    limit = float(trial.workload["flush_timeout"])
    url = f"{server(trial).url}{sglang_cache.FLUSH_PATH}?timeout={limit:g}"
    done = trial.send(url, {}, limit + 10)
    blame.failed_request(trial, done)
    if done.status != 200:
        raise CheckFailed(
            f"{url}: HTTP {done.status}: {(done.body or '').strip()[:300]}",
            {"exchange": done.transcript()},
            hint="a server with requests under way does not flush",
        )
    return done


def wait_until_written(trial: Trial) -> CacheCounters:
    """Wait until all that the server has copied to the host is in the storage too, or nothing more comes.

    A storage that is too small for all takes a part; what follows from that is for the caller to see.

    Returns:
        what had been counted then.

    Raises:
        CheckFailed: it is still writing after `storage_timeout` seconds of the workload.
    """
    limit = float(trial.workload["storage_timeout"])
    began = moved = time.monotonic()
    last: CacheCounters | None = None
    while True:
        seen, now = counters(trial), time.monotonic()
        if seen != last:
            last, moved = seen, now
        if (seen.to_host and seen.to_storage >= seen.to_host) or now - moved > _SETTLED_SECONDS:
            return seen
        if now - began > limit:
            raise CheckFailed(
                f"{limit:g} s after the last answer the server is still writing: {seen.to_storage} of {seen.to_host} "
                "tokens are in the storage",
                vars(seen),
                hint=f"see {server(trial).log} for 'Write page to storage'",
            )
        time.sleep(POLL_SECONDS)
