"""A host that had no engine has one, and somebody's settings from before."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def info(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.check_output("docker info --format '{{json .}}'"))
    return found


def settings(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.file("/etc/docker/daemon.json").content_string)
    return found


def test_the_engine_serves_and_comes_back_after_a_boot(host: Any) -> None:
    assert info(host)["ServerVersion"]
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled


def test_the_engine_uses_the_registries(host: Any) -> None:
    registries = info(host)["RegistryConfig"]
    assert registries["Mirrors"] == ["http://198.18.77.5:5000/"]
    assert registries["IndexConfigs"]["198.18.77.5:5000"]["Secure"] is False


def test_logs_cannot_fill_the_disk(host: Any) -> None:
    assert settings(host)["log-opts"] == {"max-size": "50m", "max-file": "3"}
    assert info(host)["LoggingDriver"] == "json-file"


def test_somebodys_settings_are_still_there_and_in_use(host: Any) -> None:
    assert settings(host)["labels"] == ["owner=somebody"]
    assert settings(host)["insecure-registries"] == ["registry.example:5000", "198.18.77.5:5000"]
    assert info(host)["Labels"] == ["owner=somebody"]


def test_the_settings_from_before_are_kept_beside_them(host: Any) -> None:
    copies = host.check_output("ls /etc/docker/daemon.json.*").split()
    assert {"labels": ["owner=somebody"], "insecure-registries": ["registry.example:5000"]} in [
        json.loads(host.file(copy).content_string) for copy in copies
    ]


def test_modules_can_talk_to_it(host: Any) -> None:
    assert host.run("/usr/bin/python3 -c 'import requests'").rc == 0
