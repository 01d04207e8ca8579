"""Somebody's container has run all the time while the engine got other settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def test_somebodys_container_was_not_stopped(host: Any) -> None:
    state = json.loads(host.check_output("docker inspect --format '{{json .State}}' somebodys-work"))
    assert state["Running"] is True
    assert state["StartedAt"] == host.file("/root/started").content_string.strip()


def test_the_engine_has_the_new_settings(host: Any) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["RegistryConfig"]["IndexConfigs"]["198.18.77.5:5000"]["Secure"] is False
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "local"


def test_the_roles_own_log_settings_did_not_come_between(host: Any) -> None:
    assert "log-opts" not in json.loads(host.file("/etc/docker/daemon.json").content_string)
