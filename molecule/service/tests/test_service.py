"""A host runs a service under the supervisord of its run, and has nothing left of runs that were stopped."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

RUNS = "/var/lib/runs"


def environment(host: Any, pid: str) -> dict[str, str]:
    text = host.check_output(f"cat /proc/{pid}/environ | tr '\\0' '\\n'")
    return dict(line.split("=", 1) for line in text.splitlines())


def running(host: Any, run: str) -> list[str]:
    """Return the ids of all processes that carry a run's mark."""
    command = f"grep --text --files-with-matches --line-regexp --null-data DISAGG_E2E_RUN={run} /proc/[0-9]*/environ"
    return [path.split("/")[2] for path in host.run(command).stdout.split()]


@pytest.fixture
def pid(host: Any) -> str:
    """Return the id of the process that listens."""
    return str(host.check_output("pgrep --full '^python3 -m http.server .* 8000$'"))


def test_it_answers_on_its_port(host: Any) -> None:
    address = host.interface("eth0").addresses[0]
    assert "supervisord.conf" in host.check_output(f"curl --fail --silent http://{address}:8000/")


def test_it_runs_under_the_runs_own_supervisord(host: Any, pid: str) -> None:
    parent = host.check_output(f"ps -o args= -p $(ps -o ppid= -p {pid})")
    assert f"supervisord -c {RUNS}/manual/service/supervisord.conf" in parent


def test_it_carries_its_marks_and_what_it_was_given(host: Any, pid: str) -> None:
    found = environment(host, pid)
    marks = {key: value for key, value in found.items() if key.startswith("DISAGG_E2E_")}
    assert marks == {"DISAGG_E2E_RUN": "manual", "DISAGG_E2E_NODE": "service", "DISAGG_E2E_SERVICE": "files"}
    assert found["GIVEN"] == "100% it's"


def test_it_inherits_nothing_of_its_caller(host: Any, pid: str) -> None:
    found = environment(host, pid)
    assert "CALLERS_OWN" not in found
    assert not [name for name in found if name.startswith(("SUDO_", "SSH_"))]


def test_its_log_has_what_it_said(host: Any) -> None:
    assert "Serving HTTP on" in host.file(f"{RUNS}/manual/service/logs/files.log").content_string


def test_nothing_is_left_of_a_run_that_was_stopped(host: Any) -> None:
    assert running(host, "manual")
    for run in ("replaced", "dies", "missing", "silent"):
        assert running(host, run) == []
    assert host.file(RUNS).listdir() == ["manual"]


def test_the_logs_of_a_run_that_was_stopped_are_packed(host: Any) -> None:
    log = host.check_output("tar --extract --to-stdout --file /srv/replaced.tar.gz ./talker.log")
    assert "Serving HTTP on 127.0.0.1 port 8001" in log
