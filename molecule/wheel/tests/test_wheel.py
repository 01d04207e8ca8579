"""A host has the wheels under test beside the engine's environment, and none that was refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

CACHE = "/var/cache/disagg-e2e/wheels"
WHERE = "import importlib.metadata as m; d = m.distribution('{}'); print(d.version, d.locate_file(''))"


@pytest.fixture
def result(host: Any) -> dict[str, Any]:
    """Return what the role has published."""
    found: dict[str, Any] = json.loads(host.file("/srv/wheels/result.json").content_string)
    return found


def test_the_wheel_is_byte_for_byte_the_controllers(host: Any, result: dict[str, Any]) -> None:
    digest = hashlib.sha256(Path(result["file"]).read_bytes()).hexdigest()
    assert result["sha256"] == digest
    assert host.file(f"{CACHE}/files/{Path(result['file']).name}").sha256sum == digest
    assert json.loads(host.file(f"{result['directory']}/disagg-e2e.json").content_string)["sha256"] == digest


def test_the_engines_python_finds_it_by_its_directory_only(host: Any, result: dict[str, Any]) -> None:
    command = f'/opt/engine/bin/python -c "{WHERE.format("demo")}"'
    assert host.check_output(f"PYTHONPATH={result['directory']} {command}").split() == ["1.0", result["directory"]]
    assert host.run(command).rc != 0


def test_two_wheels_do_not_share_a_directory(host: Any, result: dict[str, Any]) -> None:
    directories = host.check_output(f"ls -d {CACHE}/*-*").split()
    assert sorted(Path(directory).name.split("-")[0] for directory in directories) == ["demo", "six"]
    assert host.file(f"{result['directory']}/demo").is_directory
    assert not host.file(f"{result['directory']}/six.py").exists
