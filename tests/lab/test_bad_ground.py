"""Hosts and wishes on which no run can stand: one clear line each, before anything is deployed, and nothing left."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli, paths
from pyharness.lab import hosts
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from docker import DockerClient

    from pyharness.lab.model import Lab
    from pyharness.results import Failure, Report

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
LAB = paths.INVENTORIES / "lab"
DECODE = "198.18.77.12"
TOKEN = "planted-token-9f1c"  # noqa: S105 (planted, to be looked for)


@pytest.fixture
def inventory(tmp_path: Path, lab: Lab) -> Callable[..., Path]:
    """Return a function that gives the lab's inventory with some text of its hosts.yml replaced."""
    assert lab

    def changed(**words: str) -> Path:
        folder = tmp_path / "inventory"
        shutil.copytree(LAB, folder)
        text = (folder / "hosts.yml").read_text()
        for old, new in words.items():
            replaced = {"decode": DECODE, "key": "~/.ssh/disagg-e2e-lab ", "hosts": "~/.ssh/disagg-e2e-lab.known_hosts"}
            assert replaced[old] in text
            text = text.replace(replaced[old], new)
        # A connection that another test has left open would get past what is tested here.
        text = text.replace("disagg-e2e-%C", f"disagg-e2e-test-{os.getpid()}-%C")
        (folder / "hosts.yml").write_text(text)
        return folder

    return changed


def refused(inventory: Path, results: Path, told: str, **variables: Any) -> Report:
    """Run, and check what holds for every refusal. Returns the report."""
    report = run_case(
        Options(
            test_case=CASE,
            inventory=inventory,
            results=results,
            models=("Qwen/Qwen3-8B",),
            extra_vars=variables,
        )
    )
    assert report.verdict == "error", report.failures
    assert report.models[0].checks == [], "something was deployed"
    # The first that a node is asked is its lease, before any phase.
    assert not report.phases or report.phases[0].name == "provision"
    assert any(re.search(told, line(failure)) for failure in report.failures), report.failures
    assert all("\n" not in failure.evidence and failure.hint for failure in report.failures)
    assert json.loads((results / CASE / "test_results.json").read_text())["status"] == "Fail"
    return report


def line(failure: Failure) -> str:
    return f"{failure.evidence}; {failure.hint}"


@pytest.mark.nightly
def test_a_key_that_the_host_does_not_take(inventory: Callable[..., Path], tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    report = refused(inventory(key=f"{key} "), tmp_path / "r", "lab-2 cannot be reached: it takes none of the ssh keys")
    assert "authorized_keys" in report.failures[0].hint


@pytest.mark.pre_merge
def test_a_host_key_that_is_not_known(inventory: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    # Of both; the first one ends it.
    refused(
        inventory(hosts=str(tmp_path / "known")),
        tmp_path / "r",
        "lab-1 cannot be reached: its ssh host key is not known",
    )


@pytest.mark.nightly
def test_a_host_that_is_down(inventory: Callable[..., Path], tmp_path: Path) -> None:
    report = refused(
        inventory(decode="198.18.77.99"), tmp_path / "r", "lab-2 cannot be reached: there is no way to its address"
    )
    assert "see whether the host is up" in report.failures[0].hint


@pytest.mark.nightly
def test_a_user_who_may_not_use_sudo(
    inventory: Callable[..., Path],
    tmp_path: Path,
    docker_client: DockerClient,
    fresh_host: Callable[[int], str],
) -> None:
    hosts.run(docker_client, fresh_host(191), "rm -f /etc/sudoers.d/*; gpasswd --delete disagg sudo || true")
    refused(inventory(decode="198.18.77.191"), tmp_path / "r", "lab-2 cannot be worked on: sudo")


@pytest.mark.nightly
def test_a_disk_that_is_full(
    inventory: Callable[..., Path],
    tmp_path: Path,
    docker_client: DockerClient,
    fresh_host: Callable[[int], str],
) -> None:
    name = fresh_host(192)
    hosts.run(
        docker_client, name, "mkdir -p /var/cache/disagg-e2e; mount -t tmpfs -o size=1m none /var/cache/disagg-e2e"
    )
    refused(
        inventory(decode="198.18.77.192"), tmp_path / "r", r"lab-2: .*GiB of disk are free at /var/cache/disagg-e2e"
    )


@pytest.mark.nightly
def test_apts_lock_that_is_held(
    inventory: Callable[..., Path],
    tmp_path: Path,
    docker_client: DockerClient,
    fresh_host: Callable[[int], str],
) -> None:
    name = fresh_host(193)
    hold = (
        "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f,fcntl.LOCK_EX); "
        "print(flush=True); time.sleep(600)"
    )
    hosts.run(docker_client, name, f'systemd-run --unit=holder python3 -c "{hold}"')
    report = refused(
        inventory(decode="198.18.77.193"), tmp_path / "r", "lab-2: .*lock", docker_engine_apt_lock_timeout=2
    )
    assert "python3" in line(report.failures[0]), "the holder is not named"


@pytest.mark.nightly
def test_a_registry_that_refuses(tmp_path: Path, lab: Lab) -> None:
    assert lab
    report = refused(LAB, tmp_path, "198.18.77.5:5999", disagg_image="198.18.77.5:5999/disagg/none:1", image_retries=1)
    assert report.failures[0].class_ == "infrastructure"


@pytest.mark.pre_merge
def test_a_digest_that_the_registry_does_not_have(tmp_path: Path, lab_description: dict[str, Any]) -> None:
    image = f"{lab_description['image'].partition('@')[0]}@sha256:{'0' * 64}"
    refused(LAB, tmp_path, "check name, tag or digest", disagg_image=image)


@pytest.mark.nightly
def test_memory_that_may_not_be_locked_and_rdma_that_is_not_there(tmp_path: Path, lab: Lab) -> None:
    assert lab
    report = refused(LAB, tmp_path, "memlock|locked", disagg_transport="rdma")
    assert "lab-" in report.failures[0].evidence


@pytest.mark.nightly
def test_rdma_is_asked_for_and_only_tcp_is_there(tmp_path: Path, lab: Lab) -> None:
    assert lab
    refused(LAB, tmp_path, "lab-[12]: .*no RDMA device", disagg_transport="rdma", node_memlock=0)


@pytest.mark.nightly
def test_a_wheel_that_is_not_what_its_digest_says(tmp_path: Path, lab: Lab) -> None:
    """Nothing secret of its URL is told either, or kept."""
    assert lab
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "mooncake-1.0-py3-none-any.whl").write_bytes(b"not what was promised")
    server = subprocess.Popen(
        ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "18077"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        digest = hashlib.sha256(b"what was promised").hexdigest()
        url = f"http://127.0.0.1:18077/mooncake-1.0-py3-none-any.whl?token={TOKEN}#sha256={digest}"
        results = tmp_path / "r"
        report = run_case(Options(test_case=CASE, inventory=LAB, results=results, wheel=url))
    finally:
        server.terminate()
        server.wait()
    assert report.verdict == "error"
    assert "sha256" in report.failures[0].evidence
    holding = [path for path in results.rglob("*") if path.is_file() and TOKEN in path.read_text(errors="replace")]
    assert holding == []


@pytest.mark.pre_merge
def test_secrets_of_the_environment_are_in_no_result(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert lab
    for name in ("GITHUB_TOKEN", "GH_TOKEN", "HF_TOKEN", "DISAGG_REGISTRY_PASSWORD"):
        monkeypatch.setenv(name, TOKEN)
    code = cli.main([CASE, "-i", str(LAB), "--model", "Qwen/Qwen3-8B", "--results", str(tmp_path), "--json"])
    assert code == 0
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert holding == []
