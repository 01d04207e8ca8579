"""A host has the simulated engine's environment: what the lock file says, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pyharness import paths

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

CACHE = "/var/cache/disagg-e2e/envs"
LOCK = paths.PROJECT / "ansible_collections/disagg/e2e/roles/engine_env/files/simulator/requirements.lock"


def environment(host: Any) -> str:
    found: list[str] = host.check_output(f"ls -d {CACHE}/simulator-*").split()
    assert len(found) == 1
    return found[0]


def name_of(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_the_environment_holds_what_the_lock_file_says(host: Any) -> None:
    locked = dict(line.split("==") for line in LOCK.read_text().split() if "==" in line)
    listed = json.loads(host.check_output(f"{environment(host)}/bin/python -m pip list --format json"))
    found = {name_of(entry["name"]): entry["version"] for entry in listed}
    brought_by_venv = {"pip", "setuptools"}
    assert {name: found[name] for name in found.keys() - brought_by_venv} == {
        name_of(name): version for name, version in locked.items()
    }


def test_the_router_runs_in_it(host: Any) -> None:
    shown = host.check_output(f"{environment(host)}/bin/python -m sglang_router.launch_router --help")
    assert "--pd-disaggregation" in shown


def test_its_record_tells_what_it_took(host: Any) -> None:
    record = json.loads(host.file(f"{environment(host)}/disagg-e2e.json").content_string)
    assert record["bytes"] > 0
    assert record["seconds"] > 0


def test_an_environment_that_could_not_be_built_is_none(host: Any) -> None:
    assert host.run("ls /var/cache/refused/envs/simulator-*/disagg-e2e.json").rc != 0
