"""A host runs a service in a container of its run, replaced with its deployment, and touches no other container."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

NAME = "disagg-e2e-manual-service-alternative-files"
LOGS = "/var/lib/runs/manual/service-alternative/logs"


@pytest.fixture
def found(host: Any) -> dict[str, Any]:
    """Return what the engine says of the service's container."""
    container: dict[str, Any] = json.loads(host.check_output(f"docker inspect {NAME}"))[0]
    return container


def containers(host: Any, run: str) -> list[str]:
    names: str = host.check_output(f"docker ps --all --filter label=disagg-e2e.run={run} --format '{{{{.Names}}}}'")
    return names.split()


def test_it_answers_on_the_hosts_own_network(host: Any, found: dict[str, Any]) -> None:
    address = host.interface("eth0").addresses[0]
    assert "Directory listing" in host.check_output(f"curl --fail --silent http://{address}:8003/")
    assert found["HostConfig"]["NetworkMode"] == "host"


def test_its_labels_say_whose_it_is(found: dict[str, Any]) -> None:
    labels: dict[str, str] = found["Config"]["Labels"]
    assert (
        labels.items()
        >= {
            "disagg-e2e.run": "manual",
            "disagg-e2e.node": "service-alternative",
            "disagg-e2e.service": "files",
            "disagg-e2e.deployment": "second",
            "disagg-e2e.log": f"{LOGS}/second/files.log",
        }.items()
    )


def test_its_process_carries_the_same_marks(host: Any, found: dict[str, Any]) -> None:
    environment = host.check_output(f"tr '\\0' '\\n' < /proc/{found['State']['Pid']}/environ").splitlines()
    assert {"DISAGG_E2E_RUN=manual", "DISAGG_E2E_NODE=service-alternative", "DISAGG_E2E_SERVICE=files"} <= set(
        environment
    )


def test_it_gets_what_was_asked_for_and_no_more(host: Any, found: dict[str, Any]) -> None:
    given = found["HostConfig"]
    assert given["Privileged"] is False
    assert not given["CapAdd"]
    assert given["RestartPolicy"]["Name"] in {"no", ""}
    assert given["LogConfig"]["Type"] == "json-file"
    assert given["LogConfig"]["Config"]["max-size"] == "256m"
    inside = f"docker exec {NAME}"
    assert "cannot touch" in host.run(f"{inside} touch /shown/file").stderr.lower()
    assert host.check_output(f"{inside} stat --format %F /dev/infiniband/uverbs0") == "character special file"
    assert host.check_output(f"{inside} sh -c 'ulimit -n'") == "4096"
    assert host.check_output(f"{inside} df --output=size --block-size=M /dev/shm").split()[-1] == "96M"


def test_the_deployment_before_is_gone_and_its_logs_are_kept(host: Any) -> None:
    assert containers(host, "manual") == [NAME]
    assert "GET / HTTP/1.1" in host.file(f"{LOGS}/files.log").content_string
    assert "GET / HTTP/1.1" in host.file(f"{LOGS}/more.log").content_string


def test_nothing_is_left_of_a_run_that_was_stopped_but_its_log(host: Any) -> None:
    assert containers(host, "dies") == []
    assert not host.file("/var/lib/runs/dies").exists
    log = host.check_output("tar --extract --to-stdout --file /srv/dies.tar.gz ./dies.log")
    assert sorted(log.splitlines()) == ["no room left", "out"]


def test_somebody_elses_container_still_runs(host: Any) -> None:
    assert host.docker("somebodys").is_running
