"""Mooncake's mmap arena: one piece of memory, mapped at once, from which a client takes all that it would map itself.

`MC_MMAP_ARENA_POOL_SIZE` asks for it, `MC_DISABLE_MMAP_ARENA` forbids it (Mooncake, mooncake-store/src/utils.cpp and
mmap_arena.cpp). Its size is rounded up to 2 MiB, and it is mapped privately, of huge pages where there are any. The
kernel's list of mappings shows it; what the client was told to do does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_ROUNDED_TO = 2 * 1024 * 1024
# Of a line: the span, permissions, offset, device and inode, before the path.
_COLUMNS = 5


def arena_as_asked(trial: Trial, *, asked: bool, arena_bytes: int, ranks: int) -> Evidence:
    """Check that each rank of the server has an arena, or that none has one.

    Args:
        trial: whose server.
        asked: whether there has to be an arena.
        arena_bytes: its size.
        ranks: processes that have a client each.
    """
    service = trial.deployment.of_kind("single")[0]
    size = -(-arena_bytes // _ROUNDED_TO) * _ROUNDED_TO
    found = [entry for entry in mappings(trial, service) if entry["bytes"] == size]
    settings = {key: value for key, value in service.environment.items() if "ARENA" in key or "HUGEPAGE" in key}
    evidence = {"asked": asked, "bytes": size, "mappings": found, "environment": settings}
    if asked and len(found) < ranks:
        raise CheckFailed(
            f"Mooncake's mmap arena is not there: {len(found)} of {ranks} processes of {service.name} with a private "
            f"mapping of {size} bytes, although the environment asks for it: {settings}",
            evidence,
            hint="Mooncake takes it for memory of huge pages only (MC_STORE_USE_HUGEPAGE), which the node has to have",
        )
    if found and not asked:
        raise CheckFailed(
            f"{service.name} has a private mapping of {size} bytes, as Mooncake's mmap arena is, which is switched off",
            evidence,
            hint=f"see in {service.log} whether Mooncake says ARENA ALLOCATOR ENABLED",
        )
    return evidence


def mappings(trial: Trial, service: Service) -> list[dict[str, Any]]:
    """Return the private writable mappings without a file that a service's processes have (proc(5), maps).

    Raises:
        NodeError: the node cannot be asked.
    """
    pids = trial.nodes.probe([service])[service.node]["services"][service.name]["pids"]
    # A process that ends meanwhile is no error; one whose mappings may not be read is.
    script = "; ".join(f"echo pid {int(pid)}; [ ! -e /proc/{int(pid)} ] || cat /proc/{int(pid)}/maps" for pid in pids)
    done = trial.nodes.host(service.node).run(script)
    if done.rc != 0:
        raise NodeError(service.node, f"the mappings of {service.name}: {done.stderr.strip()}")
    result, pid = [], 0
    for line in done.stdout.splitlines():
        span, permissions, *rest = line.split(maxsplit=_COLUMNS)
        if span == "pid":
            pid = int(permissions)
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        path = rest[3] if len(rest) == _COLUMNS - 1 else ""
        if permissions == "rw-p" and path in ("", "/anon_hugepage (deleted)"):
            result.append({"pid": pid, "bytes": end - start, "huge_pages": path != ""})
    return result
