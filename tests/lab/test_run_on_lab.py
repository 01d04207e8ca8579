"""The main job over ssh on the lab's two hosts: a pass, and faults in the middle of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli, paths, unfinished
from pyharness.lab import hosts
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from docker import DockerClient

    from pyharness.lab.model import Lab
    from pyharness.results import Report

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
QWEN = "Qwen/Qwen3-8B"
INVENTORY = paths.INVENTORIES / "lab"
ONE, TWO = "disagg-lab-1", "disagg-lab-2"


def containers_of(client: DockerClient, host: str) -> list[str]:
    """Return the names of all containers of runs on a host."""
    asked = "docker ps --all --filter label=disagg-e2e.run --format '{{.Names}}' 2>/dev/null || true"
    return hosts.run(client, host, asked).split()


def run(results: Path, **options: Any) -> Report:
    options.setdefault("models", (QWEN,))
    return run_case(Options(test_case=CASE, inventory=INVENTORY, results=results, **options))


def remembers(report: Report) -> bool:
    return report.run_id in {entry.run for entry in unfinished.remembered(INVENTORY)}


@pytest.mark.pre_merge
@pytest.mark.usefixtures("lab")
def test_the_whole_way_passes_and_its_second_provisioning_changes_nothing(
    docker_client: DockerClient, lab_description: dict[str, Any], tmp_path: Path
) -> None:
    first = run(tmp_path)
    assert first.verdict == "pass", first.failures
    assert first.simulated is True
    assert first.runtime == "container"
    assert first.artifacts["image"] == {
        "ref": lab_description["image"],
        "digest": lab_description["image"].partition("@")[2],
    }
    assert first.transport.used == "tcp"

    second = run(tmp_path)
    assert second.verdict == "pass", second.failures
    log = (tmp_path / CASE / "logs" / "ansible" / "provision.log").read_text()
    # Task by task: the summary at the end counts what deploying has changed too.
    assert all(f"ok: [{node}]" in log for node in ("lab-1", "lab-2"))
    assert "changed: [" not in log
    for host in (ONE, TWO):
        assert containers_of(docker_client, host) == []
    model_logs = tmp_path / CASE / "logs" / "Qwen__Qwen3-8B"
    for name in ("sglang_server_local.log", "sglang_server_remote.log", "load_balancer.log", "curl_response.log"):
        assert (model_logs / name).read_text().strip(), f"{name} is empty"
    assert not remembers(second)


@pytest.mark.nightly
@pytest.mark.usefixtures("lab")
def test_each_service_is_a_container_of_its_run_without_rights_over_the_host(
    docker_client: DockerClient, tmp_path: Path
) -> None:
    report = run(tmp_path, keep=True)
    try:
        assert report.verdict == "pass", report.failures
        found = {host: containers_of(docker_client, host) for host in (ONE, TWO)}
        named = {host: sorted(name.rpartition("-")[2] for name in names) for host, names in found.items()}
        assert named == {ONE: ["prefill", "router"], TWO: ["decode"]}
        told = hosts.run(docker_client, TWO, f"docker inspect {found[TWO][0]}")
        (container,) = json.loads(told)
        assert container["HostConfig"]["NetworkMode"] == "host"
        assert container["HostConfig"]["Privileged"] is False
        assert container["Config"]["Labels"]["disagg-e2e.run"] == report.run_id
        assert container["HostConfig"]["RestartPolicy"]["Name"] in ("no", "")
    finally:
        assert cli.main(["teardown", "-i", str(INVENTORY), "--run", report.run_id, "--results", str(tmp_path)]) == 0
    for host in (ONE, TWO):
        assert containers_of(docker_client, host) == []


@dataclass(frozen=True)
class Fault:
    """What goes wrong in the middle of a run.

    Attributes:
        at: the phase in which it begins.
        begin: makes it go wrong.
        end: puts it right.
        told: what the first failure has to say.
        cleans_all: whether teardown can still reach every node.
    """

    at: str
    begin: Callable[[DockerClient, Lab], None]
    end: Callable[[DockerClient, Lab], None]
    told: str
    cleans_all: bool


FAULTS = {
    "network_cut": Fault(
        "exercise",
        lambda client, lab: hosts.cut(client, lab, TWO),
        lambda client, _lab: hosts.restore(client, TWO),
        "does not reach 198.18.77.1",
        cleans_all=True,
    ),
    "host_stopped": Fault(
        "exercise",
        lambda client, _lab: hosts.stop(client, TWO),
        lambda client, lab: hosts.start(client, lab, TWO),
        "lab-2",
        cleans_all=False,
    ),
    "sshd_gone": Fault(
        "exercise",
        lambda client, _lab: hosts.stop_sshd(client, TWO),
        lambda client, lab: hosts.start_sshd(client, lab, TWO),
        "lab-2",
        cleans_all=False,
    ),
    "host_stopped_in_deploy": Fault(
        "deploy",
        lambda client, _lab: hosts.stop(client, TWO),
        lambda client, lab: hosts.start(client, lab, TWO),
        "lab-2 cannot be reached",
        cleans_all=False,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.pre_merge if name == "sshd_gone" else pytest.mark.nightly)
        for name in FAULTS
    ],
)
def test_a_fault_of_the_ground_is_an_error_and_what_is_left_is_remembered(
    name: str, docker_client: DockerClient, lab: Lab, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    begun: list[str] = []

    def tell(text: str) -> None:
        if text.startswith(fault.at) and not begun:
            begun.append(text)
            fault.begin(docker_client, lab)

    try:
        report = run(tmp_path, tell=tell)
        assert begun, report.failures
        assert report.verdict == "error", report.failures
        assert fault.told in report.failures[0].evidence, report.failures
        assert report.failures[0].class_ == "infrastructure"
        assert all(failure.hint for failure in report.failures)
        assert containers_of(docker_client, ONE) == [], "what could be reached was not cleaned"
        assert remembers(report) is not fault.cleans_all
    finally:
        fault.end(docker_client, lab)
    assert cli.main(["teardown", "-i", str(INVENTORY), "--results", str(tmp_path)]) == 0
    assert containers_of(docker_client, TWO) == []
    assert not remembers(report)
