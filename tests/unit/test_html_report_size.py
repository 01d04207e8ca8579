"""report.html of a run with 100 MB of logs: its memory is judged, its time measured."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import paths
from pyharness.html_report import logs
from pyharness.results_dir import write_atomically
from tests.unit import report_sample as sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.gpu_0, pytest.mark.harness]

MEGABYTE = 1_000_000
ALL_BYTES = 100 * MEGABYTE
MOST_MEMORY = 200 * MEGABYTE
# In a process of its own: what the tests before have taken would count too.
MAKE = """\
import json, sys, time
from pathlib import Path
from pyharness import html_report
from pyharness.results import Report
folder = Path(sys.argv[1])
report = Report.model_validate_json((folder / "report.json").read_text())
started = time.perf_counter()
page = html_report.write(folder, report)
seconds = time.perf_counter() - started
# Not getrusage: its maximum begins with that of the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
memory = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps({"seconds": round(seconds, 3), "memory_bytes": memory, "page_bytes": page.stat().st_size}))
"""


def make(folder: Path, files: int) -> dict[str, Any]:
    """Write the logs and then, in a process of its own, the page. Returns what that took."""
    (folder / "logs/org__model").mkdir(parents=True)
    line = (
        "[2026-01-01 00:00:00] \x1b[32mINFO\x1b[0m decode: a batch of %d requests <b>&amp;</b> from 'one' to \"two\"\n"
    )
    block = "".join(line % number for number in range(2000)).encode()
    for number in range(files):
        name = "sglang_server_remote.log" if number == 0 else f"{number}.log"
        with (folder / "logs/org__model" / name).open("wb") as stream:
            while stream.tell() < ALL_BYTES // files:
                stream.write(block)
    report = sample.failed_report()
    (folder / "report.json").write_text(json.dumps(report.to_json()))
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(folder)], check=True, capture_output=True, text=True, cwd=paths.PROJECT
    )
    return dict(json.loads(done.stdout))


@pytest.mark.pre_merge
@pytest.mark.stress
@pytest.mark.parametrize("files", [4, 400])
def test_a_hundred_megabytes_of_logs_take_less_than_two_hundred_of_memory(tmp_path: Path, files: int) -> None:
    took = make(tmp_path, files)
    assert took["memory_bytes"] < MOST_MEMORY
    assert took["page_bytes"] < 2 * logs.TOTAL_BYTES


@pytest.mark.nightly
@pytest.mark.benchmark
@pytest.mark.parametrize("files", [4, 400])
def test_how_long_a_hundred_megabytes_of_logs_take(tmp_path: Path, files: int) -> None:
    """Written to run/bench_html.<files>.json; the goal is less than five seconds."""
    took = make(tmp_path, files)
    target = paths.PROJECT / "run" / f"bench_html.{files}.json"
    target.parent.mkdir(exist_ok=True)
    write_atomically(target, json.dumps({"files": files, "log_bytes": ALL_BYTES, **took}, indent=2) + "\n")
