"""Whose turn it is: two runs that want the same nodes, a holder that sleeps or dies, what each leaves of the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import lease, node_state
from pyharness.errors import UsageError
from tests.sabotage.harness import Harness, take_down, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

TTL = 3
SHORT = ("-e", f"disagg_lease_ttl={TTL}")
HANG = ("-e", "disagg_misbehave={decode: [hang-on-request]}")


@pytest.fixture
def second(site: Site) -> Site:
    """Return the same nodes for a second run, with results of its own."""
    return replace(site, results=site.results.parent / "second", reports=site.reports, name=f"{site.name} (second)")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process of nobody's run."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def leases(site: Site) -> list[dict[str, Any] | None]:
    return [lease.read(lease.path(lease.DEFAULT_DIR, address)) for address in (site.prefill, site.decode)]


def change_leases(site: Site, **fields: Any) -> None:
    """Change the leases of a site behind their holder's back."""
    for address in (site.prefill, site.decode):
        file = lease.path(lease.DEFAULT_DIR, address)
        entry = lease.read(file)
        with Path(file).open("r+", encoding="utf-8") as stream:
            stream.write(json.dumps({**(entry or {}), **fields}).ljust(4096))


def services(run: str) -> set[str]:
    return {found["service"] for found in node_state.run_processes(run) if found["service"]}


def check_names(run: dict[str, Any]) -> list[str]:
    return [failure["check"] for failure in run["failures"]]


def written(site: Site) -> dict[str, Any]:
    return dict(json.loads((site.results / "test_1p1d_erdma" / "report.json").read_text()))


@pytest.mark.parametrize("moment", [" deploy", " exercise"])
def test_a_harness_that_was_asleep_touches_nothing_of_the_run_that_has_its_nodes(
    moment: str, site: Site, second: Site, bystander: subprocess.Popen[bytes]
) -> None:
    asleep = Harness(site, *SHORT, *HANG)
    asleep.wait_until(moment)
    wait_for(lambda: services(asleep.run_id), "a service of the first run is there")
    os.killpg(asleep.process.pid, signal.SIGSTOP)
    report = second.run(keep=True, wait=60.0, extra_vars={"disagg_lease_ttl": TTL})
    try:
        up, left = services(report.run_id), node_state.run_processes(asleep.run_id)
        os.killpg(asleep.process.pid, signal.SIGCONT)
        code, output = asleep.end()
        still_up, first = services(report.run_id), written(site)
    finally:
        take_down(second, report.run_id)

    assert report.verdict == "pass", report.failures
    assert "clean up" in [phase.name for phase in report.phases]
    assert left == [], "what the first had up was in the way"
    assert code == 2, asleep.seen
    assert "lease lost: " in output
    assert f"held by run {report.run_id}" in output
    assert "Traceback" not in asleep.seen + output
    assert check_names(first)[0] == "lease"
    assert still_up == up >= {"prefill", "decode", "router"}, "nothing of the second run was touched"
    assert bystander.poll() is None


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else(
    site: Site, second: Site, bystander: subprocess.Popen[bytes]
) -> None:
    killed = Harness(site, *HANG)
    killed.wait_until(" exercise")
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.end()
    run = killed.run_id
    # As if it had been on another machine: nobody here can know that it is gone, but by its silence.
    change_leases(site, process="", ttl_seconds=600, uptime=lease.uptime())
    left = services(run)
    # Like a run of somebody else on other nodes of this machine, which have the same names.
    marks = {node_state.RUN_VARIABLE: "20200101-000000-else", node_state.NODE_VARIABLE: "decode"}
    marks[node_state.LEASE_VARIABLE] = lease.path(lease.DEFAULT_DIR, "127.0.0.250")
    other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], env={**os.environ, **marks})
    try:
        with pytest.raises(UsageError, match=f"is held by run {run} .*; wait for it with --wait SECONDS"):
            second.run()
        change_leases(site, uptime=lease.uptime() - 601)
        report = second.run()

        assert left
        assert report.verdict == "pass", report.failures
        assert node_state.run_processes(run) == []
        assert other.poll() is None
        assert bystander.poll() is None
        assert [(entry or {})["leftovers"] for entry in leases(site)] == [[], []]
    finally:
        other.kill()
        other.wait()


def test_a_holder_that_is_known_to_be_dead_is_not_waited_for(site: Site, second: Site) -> None:
    killed = Harness(site, *HANG)
    killed.wait_until(" exercise")
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.end()

    report = second.run()

    assert report.verdict == "pass", report.failures
    assert node_state.run_processes(killed.run_id) == []


def test_of_two_runs_at_once_one_passes_and_the_other_says_who_has_the_nodes(site: Site, second: Site) -> None:
    first = Harness(site)
    first.wait_until(" provision")
    late = Harness(second)
    code, output = late.end()
    first_code, first_output = first.end()

    assert (code, output) == (2, "")
    told = late.seen.splitlines()[-1]
    assert told.startswith(f"error: prefill is held by run {first.run_id} (test_1p1d_erdma) of "), late.seen
    assert told.endswith("; wait for it with --wait SECONDS")
    assert len(late.seen.splitlines()) == 1
    assert second.result()["status"] == "Fail"
    assert first_code == 0, first_output


def test_of_two_runs_at_once_the_one_that_waits_comes_after_the_other(site: Site, second: Site) -> None:
    first = Harness(site)
    first.wait_until(" provision")
    patient = Harness(second, "--wait", "120")
    patient.wait_until("; waiting")
    first_code, _output = first.end()
    code, output = patient.end()

    assert (first_code, code) == (0, 0), output
    assert written(site)["finished_at"] <= written(second)["phases"][0]["started_at"]
