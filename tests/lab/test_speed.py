"""How long things take on the lab. Measured and told, never judged."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from pyharness.verification.node_probe import Nodes

if TYPE_CHECKING:
    from pyharness.lab.model import Lab

pytestmark = [pytest.mark.nightly, pytest.mark.benchmark, pytest.mark.gpu_0, pytest.mark.harness]

_ROUNDS = 30


def test_checks_over_ssh(lab: Lab, record_testsuite_property: pytest.FixtureRequest) -> None:
    """A check is one command on one host, by the harness's own connection and with sudo."""
    assert lab
    paths.use_project_ansible()
    nodes = Nodes(paths.INVENTORIES / "lab")
    host = nodes.host("lab-1")
    assert host.check_output("id -u") == "0"  # opens the connection
    seconds = []
    for _round in range(_ROUNDS):
        started = time.monotonic()
        assert host.file("/etc/hostname").exists
        seconds.append(time.monotonic() - started)
    probes = []
    for _round in range(_ROUNDS // 3):
        started = time.monotonic()
        assert set(nodes.probe([], nodes=["lab-1", "lab-2"], run="none")) == {"lab-1", "lab-2"}
        probes.append(time.monotonic() - started)
    for name, values in (("check_over_ssh", seconds), ("probe_of_both_hosts", probes)):
        told = f"{statistics.median(values) * 1000:.0f} ms median, {max(values) * 1000:.0f} ms at most"
        record_testsuite_property(name, told)  # type: ignore[operator]
        print(f"{name}: {told}")  # noqa: T201 (a benchmark tells its figures)
