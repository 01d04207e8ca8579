"""Transfers broken on purpose: every check of test_transfer_engine can fail, and says what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pyharness.verification import test_transfer_engine as subject
from tests.mooncake_bench import bench, mooncake  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from tests.mooncake_bench import Bench
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.gpu_0, pytest.mark.mooncake]

SIZES = [4096, 65536, 1048576]
SMALL = {"sizes": SIZES, "bytes_per_size": 1048576, "most_transfers": 4}


@dataclass(frozen=True)
class Sabotage:
    """What is broken, and what has to come of it.

    Attributes:
        agents: what each agent does wrong.
        checks: the checks that have to fail; no other may.
        evidence: expression that the first failure's evidence has to match.
    """

    name: str
    agents: dict[str, str]
    checks: tuple[str, ...]
    evidence: str
    class_: str = "product"


SABOTAGES = [
    Sabotage(
        "a_byte_flips_in_the_targets_memory",
        {"agent_b": "flip-byte=65536"},
        ("written_bytes_right", "read_bytes_right"),
        r"write of 65536 bytes by agent_a to agent_b: 4 of 4 arrived with other bytes.* transfer 1:",
    ),
    Sabotage(
        "writes_are_lost",
        {"agent_a": "lost-write"},
        ("written_bytes_right", "transport_used", "strangers_refused"),
        r"write of 4096 bytes by agent_a to agent_b: 4 of 4 arrived with other bytes",
    ),
    Sabotage(
        "reads_are_lost",
        {"agent_b": "lost-read"},
        ("read_bytes_right", "transport_used"),
        r"read of 4096 bytes by agent_b from agent_a: 4 of 4 arrived with other bytes",
    ),
    Sabotage(
        "the_wrong_bytes_are_sent",
        {"agent_a": "same-content"},
        ("written_bytes_right", "read_bytes_right", "strangers_refused"),
        "arrived with other bytes",
    ),
    Sabotage(
        "memory_beside_the_target_changes",
        {"agent_b": "overrun"},
        ("written_bytes_right", "read_bytes_right", "strangers_refused"),
        "write of 4096 bytes by agent_a to agent_b: memory of agent_b beside the target has changed",
    ),
    Sabotage(
        "mooncake_refuses",
        {"agent_b": "refuse-transfer"},
        ("written_bytes_right", "read_bytes_right", "strangers_refused"),
        "write of 4096 bytes by agent_b to agent_a: Mooncake answered -1 to transfer 0 of 4",
    ),
    Sabotage(
        "a_stranger_is_let_in",
        {"agent_a": "take-anything"},
        ("strangers_refused",),
        "half of it behind the memory that was registered: Mooncake answered 0",
    ),
    Sabotage(
        "an_agent_dies",
        {"agent_b": "die-on-transfer"},
        ("written_bytes_right", "read_bytes_right", "transport_used", "strangers_refused"),
        "agent_b on decode .* has ended since it was ready",
    ),
]


def judged(trial: Trial) -> tuple[str, ...]:
    """Run the checks. Returns those that failed."""
    subject.exercise(trial)
    return tuple(dict.fromkeys(failure.check for failure in trial.recorder.failures))


@pytest.mark.integration
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_broken_transfer_is_never_a_pass(sabotage: Sabotage, bench: Bench) -> None:  # noqa: F811
    for agent in ("agent_a", "agent_b"):
        bench.agent(agent, *[sabotage.agents[agent]] if agent in sabotage.agents else [])
    trial = bench.trial("test_transfer_engine", **SMALL)

    assert set(judged(trial)) == set(sabotage.checks), trial.recorder.failures
    first = trial.recorder.failures[0]
    assert re.search(sabotage.evidence, first.evidence), first.evidence
    assert first.class_ == sabotage.class_
    assert all(failure.hint for failure in trial.recorder.failures)


@pytest.mark.integration
@pytest.mark.parametrize("file", ["mooncake/engine.so", "mooncake/cli.py"])
def test_another_mooncake_than_the_wheels_is_no_basis_for_a_verdict(bench: Bench, file: str) -> None:  # noqa: F811
    bench.change_the_wheel(file)
    bench.agent("agent_a")
    bench.agent("agent_b")
    trial = bench.trial("test_transfer_engine")

    subject.verify(trial)
    (failure,) = trial.recorder.failures
    assert (failure.check, failure.class_, failure.spoils_judgement) == ("wheel_in_use", "configuration", True)
    assert f"/wheel/{file}" in failure.evidence


@pytest.mark.integration
def test_a_service_of_others_is_asked_nothing(bench: Bench) -> None:  # noqa: F811
    bench.agent("agent_a")
    bench.agent("agent_b")
    bench.services[-1] = bench.services[-1].model_copy(update={"started_at": 1.0})
    trial = bench.trial("test_transfer_engine")

    assert not subject.verify(trial)
    assert trial.recorder.failures[0].check == "services_are_ours"
    assert "is not the agent_b that this run started" in trial.recorder.failures[0].evidence
    assert [check.status for check in trial.recorder.checks] == ["fail", "pass", *["skipped"] * len(subject.CHECKS[2:])]


@pytest.mark.e2e
def test_a_run_tells_tcp_from_rdma_and_a_wrong_byte_from_a_right_one(real_site: Site) -> None:
    report = real_site.run(
        "test_transfer_engine",
        extra_vars={
            # The preflight would say it at once. Without it Mooncake takes TCP in silence.
            "disagg_transport": "rdma",
            "disagg_rdma_preflight": False,
            "disagg_misbehave": {"agent_b": ["flip-byte=4096"]},
            "disagg_workloads": {"test_transfer_engine": {**SMALL, "sizes": SIZES[:1]}},
        },
    )

    assert report.verdict == "fail", report.failures
    failed = {failure.check: failure.evidence for failure in report.failures}
    assert "write of 4096 bytes by agent_a to agent_b" in failed["written_bytes_right"]
    assert "the bytes went by tcp, and rdma was asked for" in failed["transport_used"]
    assert report.transport.used == "tcp"


@pytest.mark.e2e
def test_a_run_in_which_nothing_is_broken_passes(real_site: Site) -> None:
    report = real_site.run("test_transfer_engine")

    assert report.verdict == "pass", report.failures
    assert {check.status for trial in report.models for check in trial.checks} == {"pass"}
    assert report.simulated is False
