"""Models and tokenizers are there before the first test that needs them, and nothing is asked of a hub afterwards.

A test says `pytest.mark.needs_model("Qwen/Qwen3-8B")`. Before the first test of a session the project's own roles put
what the selected tests need where it belongs: made as a stand-in, or had from a hub, as the inventory says. So no
test's time is that of a download, and none depends on what a hub gives today.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKER = "needs_model"
# What their libraries call it: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables and
# https://huggingface.co/docs/transformers/installation#offline-mode
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_SECONDS = 1800
_HOSTS = """\
all:
  children:
    prefill_nodes: {hosts: {prefill: {ansible_host: 127.254.0.1}}}
    decode_nodes: {hosts: {decode: {ansible_host: 127.254.0.2}}}
"""


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker takes."""
    config.addinivalue_line(
        "markers", f'{MARKER}(*models, inventory="simulator"): models that are there before the tests'
    )


def needed(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Return by inventory the models that tests need."""
    result: dict[str, set[str]] = {}
    for item in items:
        for marker in item.iter_markers(MARKER):
            result.setdefault(str(marker.kwargs.get("inventory", "simulator")), set()).update(marker.args)
    return {inventory: sorted(models) for inventory, models in sorted(result.items())}


def provision(inventory: str, models: list[str]) -> None:
    """Have an inventory's environment and models on this machine, by the play that a run begins with.

    Args:
        inventory: its name below inventories/.
        models: of those that its `disagg_models` has.

    Raises:
        RuntimeError: they cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="needs_model-") as folder, paths.project_ansible():
        # On addresses of their own: a run may be under way on those of the inventory.
        shutil.copytree(paths.INVENTORIES / inventory / "group_vars", Path(folder) / "group_vars")
        (Path(folder) / "hosts.yml").write_text(_HOSTS)
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", folder]
        command += [str(paths.PLAYBOOKS / "provision.yml"), "-e", "test_case=test_1p1d_erdma disagg_run=provision"]
        command += ["-e", json.dumps({"models": models, "disagg_pythonpath": [str(paths.PROJECT)]})]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode != 0:
        told = f"{MARKER}: {', '.join(models)} cannot be had for inventories/{inventory}"
        raise RuntimeError(f"{told}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


@pytest.fixture(scope="session", autouse=True)
def _models_are_there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Provide what the session's tests need, once for all workers of xdist, and be offline from then on."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    wanted = needed(request.session.items)
    if wanted:
        with (shared / "needs_model.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = shared / "needs_model.json"
            if not (done.exists() and json.loads(done.read_text()) == wanted):
                for inventory, models in wanted.items():
                    provision(inventory, models)
                done.write_text(json.dumps(wanted))
    os.environ.update(OFFLINE)
