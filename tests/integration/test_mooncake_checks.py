"""The checks of test_transfer_engine and test_mooncake_store pass with real Mooncake; tests/sabotage has them fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness.verification import test_mooncake_store as store
from pyharness.verification import test_transfer_engine as transfer
from tests.mooncake_bench import bench, mooncake  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from types import ModuleType

    from pyharness.verification.base import Trial
    from tests.mooncake_bench import Bench

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

SIZES = [4096, 65536, 1048576]
TRANSFERS = {"sizes": SIZES, "bytes_per_size": 1048576, "most_transfers": 4}
OBJECTS = {"sizes": [1, 4095, 262144], "segment_bytes": 16 << 20, "lease_seconds": 2, "client_ttl_seconds": 1}


def judged(checks: ModuleType, trial: Trial) -> list[str]:
    """Make all checks. Returns those that failed."""
    checks.exercise(trial)
    return [failure.check for failure in trial.recorder.failures]


def test_agents_are_ours_and_the_wheels(bench: Bench) -> None:  # noqa: F811
    bench.agent("agent_a")
    bench.agent("agent_b")
    trial = bench.trial("test_transfer_engine")

    assert transfer.verify(trial), trial.recorder.failures
    assert [(check.id, check.status) for check in trial.recorder.checks] == [
        (name, "pass") for name in transfer.CHECKS[:2]
    ]


def test_transfers_in_which_nothing_is_broken_pass(bench: Bench) -> None:  # noqa: F811
    bench.agent("agent_a")
    bench.agent("agent_b")
    trial = bench.trial("test_transfer_engine", **TRANSFERS)

    assert judged(transfer, trial) == [], trial.recorder.failures
    assert trial.transport.used == "tcp"
    written = next(check for check in trial.recorder.checks if check.id == "written_bytes_right").evidence["transfers"]
    assert [(entry["by"], entry["size"]) for entry in written] == [
        (agent, size) for agent in ("agent_a", "agent_b") for size in SIZES
    ]
    assert all(entry["latency_ms"]["p50"] <= entry["latency_ms"]["p99"] for entry in written)
    assert all(entry["bytes_per_second"] > 0 for entry in written)


def test_a_master_and_its_clients_are_ours_and_the_wheels(bench: Bench) -> None:  # noqa: F811
    bench.master()
    bench.client("client_a")
    bench.client("client_b")
    trial = bench.trial("test_mooncake_store")

    assert store.verify(trial), trial.recorder.failures
    assert [(check.id, check.status) for check in trial.recorder.checks] == [
        (name, "pass") for name in store.CHECKS[:2]
    ]


def test_a_store_in_which_nothing_is_broken_passes(bench: Bench) -> None:  # noqa: F811
    bench.master(lease=2)
    bench.client("client_a")
    bench.client("client_b")
    trial = bench.trial("test_mooncake_store", **OBJECTS)

    assert judged(store, trial) == [], trial.recorder.failures
    assert [check.id for check in trial.recorder.checks] == list(store.CHECKS[2:])
    assert trial.transport.used == "tcp"
    found = {check.id: check.evidence for check in trial.recorder.checks}
    assert found["lease_honoured"]["code"] == -706
    assert found["client_loss_survived"]["fault"]["target"].startswith("client_b on ")
    assert found["master_loss_told"]["fault"]["target"].startswith("master on ")
    assert trial.nodes.ended(trial.deployment.services) == []  # those that were killed have successors
