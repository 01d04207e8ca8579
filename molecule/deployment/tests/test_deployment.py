"""The controller has one document of what runs on two hosts, and the harness understands it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyharness import deployment

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


@pytest.fixture
def written() -> deployment.Deployment:
    """Return what the harness reads."""
    return deployment.read(FOLDER / "deployment.json")


def test_the_harness_knows_what_was_deployed(written: deployment.Deployment) -> None:
    assert (written.run_id, written.test_case, written.runtime) == ("manual", "test_1p1d_erdma", "process")
    assert written.image is None
    assert written.simulated
    assert written.nodes == ["deployment-1", "deployment-2"]


def test_services_of_all_hosts_are_in_it(written: deployment.Deployment) -> None:
    assert [(service.kind, service.node) for service in written.services] == [
        ("prefill", "deployment-1"),
        ("router", "deployment-1"),
        ("decode", "deployment-2"),
    ]
    (router,) = written.of_kind("router")
    assert written.entry == router.url


def test_a_service_is_the_process_that_runs_on_its_host(host: Any, written: deployment.Deployment) -> None:
    node = host.check_output("hostname").removeprefix("disagg-molecule-")
    services = [service for service in written.services if service.node == node]
    assert services
    for service in services:
        assert host.check_output(f"tr '\\0' ' ' < /proc/{service.pid}/cmdline").split() == service.command
        assert host.check_output(f"curl --fail --silent {service.ready_url}")
        assert host.file(service.log).is_file
        assert host.file(service.run_dir).is_directory
        assert 0 < service.started_at <= (service.ready_at or 0)


def test_what_was_refused_was_not_written() -> None:
    assert not (FOLDER / "refused.json").exists()
