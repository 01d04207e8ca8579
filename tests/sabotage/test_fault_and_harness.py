"""The harness is stopped or killed while a fault is in effect: nothing of the fault outlives its run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import paths
from tests.sabotage.conftest import CASE, QWEN
from tests.sabotage.harness import Harness, take_down, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

# The main job, whose requests are a decode server that stands still until the harness is asked to stop.
_STALLING = """
import sys, time
from pyharness import faults
from pyharness.cli import main
from pyharness.verification import test_1p1d_erdma as case

def exercise(trial):
    victim, = trial.deployment.of_kind("decode")
    with faults.injected(trial, faults.Stall(victim)):
        print("stalled", file=sys.stderr, flush=True)
        while True:
            trial.go_on()
            time.sleep(0.05)

case.exercise = exercise
sys.exit(main(sys.argv[1:]))
"""


class StallingHarness(Harness):
    """The harness in the hold of a fault."""

    def __init__(self, site: Site) -> None:
        self.site, self.seen = site, ""
        command = [sys.executable, "-c", _STALLING, CASE, "-i", str(site.inventory), "--results", str(site.results)]
        self.process = subprocess.Popen(
            [*command, "--model", QWEN],
            cwd=paths.PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.wait_until("stalled")


@pytest.fixture
def stalled(site: Site) -> Iterator[StallingHarness]:
    """Return a harness in whose run the decode server stands still."""
    harness = StallingHarness(site)
    states = {node_state.process(entry["pid"])["state"] for entry in site.processes("decode")}  # type: ignore[index]
    assert states == {"T"}
    yield harness
    if harness.process.poll() is None:
        harness.process.kill()
        harness.process.wait()


def test_ctrl_c_in_the_hold_takes_the_fault_back(stalled: StallingHarness) -> None:
    stalled.process.send_signal(signal.SIGINT)
    code, _output = stalled.end()
    assert code == 2
    report = json.loads((stalled.site.results / CASE / "report.json").read_text())
    assert report["failures"][0]["check"] == "interrupted"
    (fault,) = report["models"][0]["faults"]
    assert (fault["name"], fault["proven"], fault["reverted"]) == ("stall", True, True)
    assert [(step["step"], step["status"]) for step in fault["steps"]][-2:] == [("revert", "ok"), ("gone", "ok")]
    assert {event["text"] for event in report["timeline"] if event["kind"] == "fault"} == {"stall decode on decode"}
    assert node_state.run_processes(report["run_id"]) == []


def test_after_kill_9_in_the_hold_teardown_ends_what_stands_still(stalled: StallingHarness) -> None:
    os.killpg(stalled.process.pid, signal.SIGKILL)
    stalled.process.wait()
    journal = (stalled.site.results / CASE / "journal.jsonl").read_text()
    assert '"fault": "stall"' in journal.splitlines()[-1]
    assert node_state.run_processes(stalled.run_id) != []
    take_down(stalled.site, stalled.run_id)
    wait_for(lambda: node_state.run_processes(stalled.run_id) == [], "the end of what was stopped", 5)


def test_after_kill_9_in_the_hold_a_run_that_goes_on_deploys_anew(stalled: StallingHarness) -> None:
    os.killpg(stalled.process.pid, signal.SIGKILL)
    stalled.process.wait()
    report = stalled.site.run(resume=True)
    assert report.verdict == "pass", report.failures
    assert sum(phase.name == "deploy" for phase in report.phases) == 2
