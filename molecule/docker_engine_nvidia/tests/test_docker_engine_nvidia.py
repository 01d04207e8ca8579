"""The engine has the runtime that NVIDIA's toolkit brings, from a repository whose key was pinned."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def test_the_engine_lists_the_runtime(host: Any) -> None:
    runtimes = json.loads(host.check_output("docker info --format '{{json .Runtimes}}'"))
    assert runtimes["nvidia"]["path"] == "nvidia-container-runtime"


def test_the_package_came_from_the_repository_that_the_key_signs(host: Any) -> None:
    assert host.package("nvidia-container-toolkit").is_installed
    source = host.file("/etc/apt/sources.list.d/nvidia-container-toolkit.list").content_string
    assert source.startswith("deb [signed-by=/etc/apt/keyrings/nvidia-container-toolkit.gpg] http://127.0.0.1:8099/")


def test_the_other_settings_are_still_there(host: Any) -> None:
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert settings["insecure-registries"] == ["198.18.77.5:5000"]
    assert settings["log-driver"] == "json-file"
