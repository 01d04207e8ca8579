"""Inventories that can be read and are wrong all the same: through the real program one line and exit code 2.

What is wrong with an inventory's files is in tests/unit/test_fuzz_inventory.py. Here is what only a playbook finds out:
variables that are missing, of another type, or templates that cannot be filled in.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import paths

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

_SEED = 5
_FEW, _MANY = 6, 60
# What a run on the simulator cannot do without, and cannot take as something else.
NEEDED: tuple[str, ...] = (
    "disagg_platform",
    "disagg_models",
    "disagg_engine_env",
    "disagg_wheel_package",
    "disagg_state_dir",
)
NEEDED += ("disagg_address", "disagg_cache_dir", "disagg_libraries", "disagg_min_free_gib", "disagg_runtime")
WRONG: tuple[Any, ...] = ("{{ nowhere }}", "{{ 1 +", "{{ 'x' | no_such_filter }}", [1], {"a": "b"}, None, 10**30)


# A library, and the package that has it.
_RIGHT = ("disagg_libraries", {"a": "b"})


def _damages(count: int) -> list[tuple[str, Any]]:
    """Return variables and what stands there instead of them; "…" leaves one out."""
    every = [(name, value) for name in NEEDED for value in ("…", *WRONG) if (name, value) != _RIGHT]
    return random.Random(_SEED).sample(every, count)  # noqa: S311 (no secret)


def _marked(few: int, many: int) -> list[object]:
    return [
        pytest.param(*damage, marks=pytest.mark.pre_merge if number < few else pytest.mark.nightly)
        for number, damage in enumerate(_damages(many))
    ]


@pytest.mark.parametrize(("name", "value"), _marked(_FEW, _MANY))
def test_a_wrong_variable_is_told_before_anything_is_started(name: str, value: Any, site: Site) -> None:
    file = site.inventory / "group_vars" / "all.yml"
    variables = yaml.safe_load(file.read_text())
    variables.pop(name)
    if value != "…":
        variables[name] = value
    file.write_text(yaml.safe_dump(variables))

    program = [sys.executable, "-m", "pyharness", "test_1p1d_erdma", "-i", str(site.inventory), "-q"]
    program += ["--model", "Qwen/Qwen3-8B", "--results", str(site.results)]
    done = subprocess.run(
        program,
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    if done.returncode == 0:
        pytest.skip(f"{name} may be {value!r}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    report = json.loads((site.results / "test_1p1d_erdma" / "report.json").read_text())
    assert report["failures"][0]["class"] == "configuration", report["failures"]
    assert {phase["name"] for phase in report["phases"]} <= {"provision", "teardown"}, "it was found out too late"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert [found for found in node_state.run_processes() if site.prefill in found["command"]] == []
