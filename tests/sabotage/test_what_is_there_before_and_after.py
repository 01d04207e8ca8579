"""Stale servers before a run, processes left after it, results of the run before, and runs that are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import results
from pyharness.playbook import Outcome, PlaybookRunner
from tests.sabotage.harness import Harness, take_down, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

SERVE = "import http.server as h, sys; h.HTTPServer((sys.argv[1], 30001), h.BaseHTTPRequestHandler).serve_forever()"


@pytest.fixture
def stranger(site: Site) -> Iterator[Any]:
    """Return a function that starts a server of somebody else on decode's port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", SERVE, site.decode], env={**os.environ, **environment})
        started.append(process)
        wait_for(lambda: node_state.listeners(site.decode, [30001]), "the stranger listens")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_stale_server_of_an_earlier_run_is_an_error_before_anything_starts(site: Site, stranger: Any) -> None:
    process = stranger(**{node_state.RUN_VARIABLE: "20200101-000000-dead", node_state.SERVICE_VARIABLE: "decode"})

    report = site.run()

    assert report.verdict == "error"
    assert [failure.class_ for failure in report.failures] == ["infrastructure"]
    told = report.failures[0].evidence
    assert told.startswith("decode: port 30001 of ")
    assert f"pid {process.pid} of run 20200101-000000-dead (service decode)" in told
    assert "python -m pyharness teardown --run 20200101-000000-dead" in told
    assert "deploy" not in [phase.name for phase in report.phases]
    assert process.poll() is None, "a process of another run is not ours to end"


def test_a_strangers_server_is_an_error_and_stays_untouched(site: Site, stranger: Any) -> None:
    process = stranger()

    report = site.run()

    assert report.verdict == "error"
    assert f"pid {process.pid}, up since" in report.failures[0].evidence
    assert process.poll() is None


def test_what_is_left_after_teardown_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PlaybookRunner.run

    def forgetful(self: PlaybookRunner, playbook: str, variables: dict[str, Any], **options: Any) -> Outcome:
        if playbook == "teardown.yml":
            return Outcome("successful", [], "", 0.0)
        return real(self, playbook, variables, **options)

    monkeypatch.setattr(PlaybookRunner, "run", forgetful)
    report = site.run()
    monkeypatch.undo()
    take_down(site, report.run_id)

    assert report.verdict == "error"
    assert [(failure.check, failure.class_) for failure in report.failures] == [("nodes_clean", "infrastructure")]
    assert report.run_id in report.failures[0].hint


def test_the_result_of_the_run_before_never_stays_in_place(site: Site) -> None:
    assert site.run().verdict == "pass"
    before = (site.results / "test_1p1d_erdma" / "report.json").read_text()

    report = site.run(extra_vars={"disagg_misbehave": {"prefill": ["die-before-ready"]}})

    assert report.verdict == "fail"
    assert site.result()["status"] == "Fail"
    kept = site.results / "previous" / "test_1p1d_erdma" / json.loads(before)["run_id"] / "report.json"
    assert kept.read_text() == before


MOMENTS = {
    "while_provisioning": (" provision", 0.5),
    "while_starting": (" deploy", 1.0),
    "when_just_deployed": (" verify", 0.0),
    "while_a_request_hangs": (" exercise", 0.5),
    "while_tearing_down": (" teardown", 0.2),
}


# The same code handles both signals: two moments are enough for the second.
STOPS = [(signal.SIGINT, moment) for moment in MOMENTS]
STOPS += [(signal.SIGTERM, "while_starting"), (signal.SIGTERM, "while_a_request_hangs")]


@pytest.mark.parametrize(("number", "moment"), STOPS, ids=lambda value: getattr(value, "name", value))
def test_a_run_that_is_stopped_ends_in_an_error_and_leaves_nothing(
    number: signal.Signals, moment: str, site: Site
) -> None:
    text, later = MOMENTS[moment]
    hang = ["-e", "disagg_misbehave={decode: [hang-on-request]}"] if "hangs" in moment else []
    harness = Harness(site, *hang)

    harness.wait_until(text)
    time.sleep(later)  # not a synchronisation: any moment will do, and this one is inside the phase
    harness.process.send_signal(number)
    code, output = harness.end()

    assert code == 2, harness.seen
    assert f"{number.name} ended the run" in output
    assert "Traceback" not in harness.seen + output
    assert site.result()["status"] == "Fail"
    assert node_state.run_processes(harness.run_id) == []


@pytest.mark.parametrize(("moment", "services"), [(" deploy", set()), (" exercise", {"prefill", "decode", "router"})])
def test_a_killed_harness_leaves_an_error_and_teardown_finds_what_it_left(
    moment: str, services: set[str], site: Site
) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    harness = Harness(site, "-e", "disagg_misbehave={decode: [hang-on-request]}")
    harness.wait_until(moment)
    wait_for(lambda: node_state.run_processes(harness.run_id), "a process of the run is there")
    os.killpg(harness.process.pid, signal.SIGKILL)
    harness.end()

    left = node_state.run_processes(harness.run_id)
    told = take_down(site, harness.run_id)

    try:
        # While deploying it is the playbook, which goes on alone: whatever it had not started yet never starts.
        assert left
        assert services <= {found["service"] for found in left}
        assert site.result()["status"] == "Fail"
        assert f"nothing of run {harness.run_id} is left" in told
        assert node_state.run_processes(harness.run_id) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_keep_leaves_the_deployment_up_until_teardown(site: Site) -> None:
    report = site.run(keep=True)
    up = {found["service"] for found in node_state.run_processes(report.run_id)}
    take_down(site, report.run_id)

    assert report.verdict == "pass", report.failures
    assert {"prefill", "decode", "router"} <= up


def test_the_single_engine_reference_gives_the_same_verdict(site: Site) -> None:
    report = site.run(extra_vars={"disagg_reference": "single_engine"}, models=())

    assert report.verdict == "pass", report.failures
    assert len(report.models) == 2, "each one alone takes the ports of the other's deployment"
    for model in report.models:
        answer = next(check for check in model.checks if check.id == "answer_correct")
        assert answer.evidence["reference_method"] == "single_engine"
        assert answer.evidence["reference"]["text"] == answer.evidence["text"]
    phases = [phase.name for phase in report.phases]
    assert phases[:4] == ["provision", "reference", "reference", "deploy"]


def test_a_run_id_is_never_used_twice() -> None:
    assert len({results.new_run_id() for _ in range(50)}) == 50
