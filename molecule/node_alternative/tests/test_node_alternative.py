"""A host that was refused is as it was before."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def test_nothing_was_installed(host: Any) -> None:
    assert not host.package("libnuma1").is_installed


def test_what_is_anothers_still_runs(host: Any) -> None:
    assert host.service("stale-run").is_running
    assert host.socket("tcp://198.18.77.116:30001").is_listening


def test_the_quarantine_stays(host: Any) -> None:
    assert host.file("/var/lib/quarantined/quarantine.json").exists
