"""The way of the A10 inventory on hosts that look like A10 servers: stand-ins for nvidia-smi and for the trees of /sys.

It goes as far as it can without the hardware: all of provisioning, and then Docker refuses a container with GPUs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import paths
from pyharness.lab import hosts
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from pyharness.results import Report

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.ansible]

ROOT = "/srv/a10"
QWEN = "Qwen/Qwen3-8B"
A10 = {
    "disagg_platform": "cuda",
    "disagg_transport": "rdma",
    "disagg_rdma_devices": ["erdma_0"],
    "disagg_tensor_parallel": 2,
    "disagg_first_gpu": 0,
    "disagg_reference": "single_engine",
    "disagg_models": {QWEN: {"path": QWEN}},
    "erdma_sysfs_root": f"{ROOT}/sys",
    "erdma_dev_root": f"{ROOT}/dev",
    # What the lab's hosts cannot have: NVIDIA's toolkit (its repository), and more memory that may be locked.
    "docker_engine_nvidia": False,
    "node_memlock": 0,
}


def give(client: DockerClient, host: str, path: str, content: str, mode: str = "0644") -> None:
    """Write a file on a host."""
    hosts.run(
        client,
        host,
        f"mkdir -p $(dirname {path}); cat > {path} <<'END_OF_FILE'\n{content}\nEND_OF_FILE\nchmod {mode} {path}",
    )


@pytest.fixture
def a10_hosts(docker_client: DockerClient, lab: Any) -> Iterator[None]:
    """Make the lab's hosts look like A10 servers, and put them back."""
    assert lab
    smi = (paths.PROJECT / "molecule" / "gpu" / "files" / "nvidia-smi").read_text()
    data = Path(__file__).parent.parent / "unit" / "data" / "rdma" / "erdma-roce.tree"
    layer = Path(__file__).parent.parent / "unit" / "sysfs_trees.py"
    both = ("disagg-lab-1", "disagg-lab-2")
    for host in both:
        give(docker_client, host, "/usr/local/bin/nvidia-smi", smi, "0755")
        give(docker_client, host, f"{ROOT}/tree", data.read_text())
        give(docker_client, host, f"{ROOT}/sysfs_trees.py", layer.read_text())
        lay = f"import sysfs_trees, pathlib; sysfs_trees.lay(pathlib.Path('tree').read_text(), pathlib.Path('{ROOT}'))"
        hosts.run(docker_client, host, f'cd {ROOT} && python3 -c "{lay}"')
    yield
    for host in both:
        hosts.run(
            docker_client,
            host,
            f"rm -rf {ROOT} /usr/local/bin/nvidia-smi /srv/gpu /var/cache/disagg-e2e/runs/quarantine.json",
        )


def run(results: Path, **changes: Any) -> Report:
    options = Options(
        test_case="test_1p1d_erdma",
        inventory=paths.INVENTORIES / "lab",
        results=results,
        models=(QWEN,),
        extra_vars={**A10, **changes},
    )
    return run_case(options)


@pytest.mark.usefixtures("a10_hosts")
def test_all_of_provisioning_stands_and_the_first_container_wants_the_hardware(tmp_path: Path) -> None:
    report = run(tmp_path)
    assert [(phase.name, phase.status) for phase in report.phases][:2] == [("provision", "ok"), ("reference", "failed")]
    assert report.verdict == "error"
    assert re.search(r"nvidia|\[\[gpu\]\]", report.failures[0].evidence), report.failures
    assert report.checks[-1].status == "pass", "something is left"


@pytest.mark.usefixtures("a10_hosts")
def test_a_device_that_is_not_active_is_refused(docker_client: DockerClient, tmp_path: Path) -> None:
    state = f"{ROOT}/sys/class/infiniband/erdma_0/ports/1/state"
    hosts.run(docker_client, "disagg-lab-2", f"echo '1: DOWN' > {state}")
    report = run(tmp_path)
    assert report.verdict == "error"
    assert report.phases[0].status == "failed"
    assert re.search("lab-2: .*erdma_0", report.failures[0].evidence), report.failures


@pytest.mark.usefixtures("a10_hosts")
def test_gpus_that_nobody_can_free_put_the_node_in_quarantine_and_the_next_run_says_so(
    docker_client: DockerClient, tmp_path: Path
) -> None:
    hosts.run(docker_client, "disagg-lab-1", "mkdir -p /srv/gpu; echo '0 0 20000' > /srv/gpu/held")
    first = run(tmp_path, gpu_timeout=2)
    assert first.verdict == "error"
    assert "quarantine" in first.failures[0].evidence, first.failures
    hosts.run(docker_client, "disagg-lab-1", "rm /srv/gpu/held")
    second = run(tmp_path)
    assert second.verdict == "error"
    assert re.search(f"lab-1: .*quarantine.*{first.run_id}", second.failures[0].evidence), second.failures
