"""A harness that was killed is gone on with: what is up is taken as it is, and what is done stays done."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import journal
from tests.sabotage.harness import Harness

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"


def killed(harness: Harness) -> None:
    harness.process.kill()
    harness.end()


def test_what_a_killed_harness_left_up_is_verified_as_it_is(site: Site) -> None:
    harness = Harness(site)
    harness.wait_until(" verify")
    killed(harness)
    run_id = harness.run_id
    before = {found["service"]: found["pid"] for found in node_state.run_processes(run_id)}

    report = site.run(resume=True)

    assert (report.run_id, report.verdict) == (run_id, "pass"), report.failures
    assert {"prefill", "decode", "router"} <= set(before)
    assert [(phase.name, phase.status) for phase in report.phases] == [
        ("provision", "ok"), ("deploy", "ok"), ("verify", "failed"),
        ("verify", "ok"), ("exercise", "ok"), ("teardown", "ok"),
    ]  # fmt: skip
    owner = next(check for check in report.models[0].checks if check.id == "services_are_ours")
    assert {name: owner.evidence[name]["pid"] for name in ("prefill", "decode", "router")} == {
        name: before[name] for name in ("prefill", "decode", "router")
    }
    events = journal.read(site.results / CASE / journal.NAME)
    assert [event["resumed"] for event in events if event["event"] == "run"] == [False, True]


def test_a_killed_deployment_is_ended_and_made_anew(site: Site) -> None:
    harness = Harness(site)
    harness.wait_until(" deploy")
    killed(harness)
    run_id = harness.run_id

    report = site.run(resume=True)

    assert (report.run_id, report.verdict) == (run_id, "pass"), report.failures
    assert [(phase.name, phase.status) for phase in report.phases][:4] == [
        ("provision", "ok"), ("deploy", "failed"), ("clean up", "ok"), ("deploy", "ok"),
    ]  # fmt: skip


def test_a_service_that_died_meanwhile_is_not_taken_for_the_one_that_was_started(site: Site) -> None:
    harness = Harness(site)
    harness.wait_until(" verify")
    killed(harness)
    decode = next(found for found in node_state.run_processes(harness.run_id) if found["service"] == "decode")
    os.kill(decode["pid"], signal.SIGKILL)

    report = site.run(resume=True)

    assert report.verdict == "pass", report.failures
    assert [phase.name for phase in report.phases][2:5] == ["verify", "clean up", "deploy"]


def test_a_run_that_is_at_work_is_not_gone_on_with(site: Site) -> None:
    first = Harness(site)
    first.wait_until(" provision")
    second = Harness(site, "--resume")
    code, _output = second.end()
    assert code == 2
    told = [line for line in second.seen.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert f"run {first.run_id} is still at work (pid {first.process.pid})" in told[0]
    assert first.end()[0] == 0, "the other one was not disturbed"
    assert json.loads((site.results / CASE / "test_results.json").read_text())["status"] == "Pass"
