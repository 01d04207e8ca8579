"""Run test_xpyd with so many nodes, and take time, processor time and memory of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SCHEMA_VERSION = 1
CASE = "test_xpyd"
# How often the harness's memory is looked at. The kernel keeps its highest itself, so only the last look counts.
_LOOK_SECONDS = 0.1
_KIB_PER_MIB = 1024

# What else is measured, once per `make bench`: by name a function of a folder to work in that returns its figures.
MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {}


@dataclass(frozen=True)
class Run:
    """One run, in seconds and MiB.

    Attributes:
        nodes: logical nodes, half of them prefill.
        seconds: the whole program, as a user waits for it.
        cpu_seconds: processor time of the harness and of all that it started and waited for; not the services'.
        own_seconds: of the run's time what was neither start of engines nor inference.
        phases: seconds by phase.
        harness_mib: the most memory that the harness's own process had (VmHWM, proc(5)).
        load: the machine's load of the last minute before it began.
    """

    nodes: int
    seconds: float
    cpu_seconds: float
    own_seconds: float
    phases: dict[str, float]
    harness_mib: float
    load: float


@dataclass(frozen=True)
class Size:
    """The runs with one number of nodes: medians, and what they are to those of the smallest number."""

    nodes: int
    runs: int
    seconds: float
    cpu_seconds: float
    own_seconds: float
    harness_mib: float
    seconds_per_node: float
    ratio: float
    cpu_ratio: float
    phases: dict[str, float] = field(default_factory=dict)


class BenchError(Exception):
    """A run did not pass: its time says nothing."""


def one_run(nodes: int, folder: Path) -> Run:
    """Run the test case once.

    Args:
        nodes: how many logical nodes, an even number.
        folder: where its results go.

    Raises:
        BenchError: it did not pass.
    """
    command = [
        sys.executable,
        "-m",
        "pyharness",
        CASE,
        "-i",
        str(paths.INVENTORIES / "scale"),
        "--results",
        str(folder),
    ]
    environment = {
        **os.environ,
        "DISAGG_E2E_PAIRS": str(nodes // 2),
        "DISAGG_E2E_HISTORY": str(folder / "history.sqlite"),
    }
    load = os.getloadavg()[0]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{nodes}.log").open("w", encoding="utf-8") as log:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, cwd=paths.PROJECT, stdout=log, stderr=log)
        highest = 0.0
        while True:
            highest = max(highest, _peak_mib(process.pid))
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            time.sleep(_LOOK_SECONDS)  # the interval of looking; the program's end decides
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        told = (folder / f"{nodes}.log").read_text(encoding="utf-8").strip().splitlines()
        raise BenchError(f"{nodes} nodes: {CASE} ended with {process.returncode}: {' '.join(told[-1:])}")
    report = json.loads((folder / CASE / "report.json").read_text(encoding="utf-8"))
    phases: dict[str, float] = {}
    for phase in report["phases"]:
        phases[phase["name"]] = round(phases.get(phase["name"], 0.0) + phase["seconds"], 3)
    # What the phases do not have: Python's start, the lease, reading the inventory, writing the results.
    phases["around"] = round(max(0.0, seconds - sum(phases.values())), 3)
    return Run(
        nodes=nodes,
        seconds=round(seconds, 3),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 3),
        own_seconds=report["timing"]["own"],
        phases=phases,
        harness_mib=round(highest, 1),
        load=load,
    )


def _peak_mib(pid: int) -> float:
    """Return the most memory that a process has had; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) / _KIB_PER_MIB


def summarise(runs: Iterable[Run]) -> list[Size]:
    """Return the medians by number of nodes, smallest first."""
    by_nodes: dict[int, list[Run]] = {}
    for run in runs:
        by_nodes.setdefault(run.nodes, []).append(run)
    sizes: list[Size] = []
    for nodes, same in sorted(by_nodes.items()):
        seconds = statistics.median(run.seconds for run in same)
        cpu_seconds = statistics.median(run.cpu_seconds for run in same)
        first = sizes[0] if sizes else None
        names = dict.fromkeys(name for run in same for name in run.phases)
        sizes.append(
            Size(
                nodes=nodes,
                runs=len(same),
                seconds=round(seconds, 3),
                cpu_seconds=round(cpu_seconds, 3),
                own_seconds=round(statistics.median(run.own_seconds for run in same), 3),
                harness_mib=round(max(run.harness_mib for run in same), 1),
                seconds_per_node=round(seconds / nodes, 3),
                ratio=round(seconds / first.seconds, 2) if first else 1.0,
                cpu_ratio=round(cpu_seconds / first.cpu_seconds, 2) if first else 1.0,
                phases={name: round(statistics.median(run.phases.get(name, 0.0) for run in same), 3) for name in names},
            )
        )
    return sizes


def document(runs: list[Run], others: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return what bench.json holds.

    Args:
        runs: all of them, as they were made.
        others: figures of `MEASURES`, by name.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "test_case": CASE,
        "machine": {"cores": os.cpu_count(), "python": sys.version.split()[0]},
        "sizes": [asdict(size) for size in summarise(runs)],
        "runs": [asdict(run) for run in runs],
        "others": others,
    }
