"""Four runs are started at once on the same nodes, and each waits for its turn: all pass, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import paths

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.nightly, pytest.mark.stress, pytest.mark.gpu_0, pytest.mark.harness]

STARTERS = 4
WAIT_SECONDS = 600


def test_all_of_them_pass_one_after_the_other(site: Site) -> None:
    program = [sys.executable, "-m", "pyharness", "test_1p1d_erdma", "--model", "Qwen/Qwen3-8B", "--json", "-q"]
    program += ["-i", str(site.inventory), "--wait", str(WAIT_SECONDS)]
    started = [
        subprocess.Popen(
            [*program, "--results", str(site.results / str(number))],
            cwd=paths.PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(STARTERS)
    ]
    told = [process.communicate(timeout=WAIT_SECONDS + 300) for process in started]

    assert [process.returncode for process in started] == [0] * STARTERS, told
    reports = [json.loads(output) for output, _progress in told]
    services = [
        [event["at"] for event in report["timeline"] if event["kind"] in ("start", "stop")] for report in reports
    ]
    turns = sorted((min(moments), max(moments)) for moments in services)
    assert all(end < start for (_, end), (start, _) in pairwise(turns)), turns
    assert len({report["run_id"] for report in reports}) == STARTERS
    assert [found for found in node_state.run_processes() if site.prefill in found["command"]] == []
