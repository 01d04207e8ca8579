"""Stores broken on purpose: every check of test_mooncake_store can fail, and says what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pyharness.verification import store_checks, store_outages
from pyharness.verification import test_mooncake_store as subject
from tests.mooncake_bench import bench, mooncake  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from tests.mooncake_bench import Bench
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.gpu_0, pytest.mark.mooncake]

SMALL = {"sizes": [1, 4095, 262144], "segment_bytes": 16 << 20, "lease_seconds": 2, "client_ttl_seconds": 1}


@dataclass(frozen=True)
class Sabotage:
    """What is broken, and what has to come of it.

    Attributes:
        name: what is broken.
        evidence: by the checks that have to fail, an expression that their evidence has to match; no other may fail.
        clients: what each client does wrong.
        master: further arguments of the master.
        only: make these checks alone.
    """

    name: str
    evidence: dict[str, str]
    clients: dict[str, list[str]] = field(default_factory=dict)
    master: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


SABOTAGES = [
    Sabotage(
        "other_bytes_come_back",
        {"objects_right": "client_b got other bytes than were put under client_a_client_a_4095 .way bytes.: 4095 of"},
        clients={"client_b": ["wrong-bytes=4095"]},
        only=("objects_right",),
    ),
    Sabotage(
        "objects_are_lost",
        {"objects_right": "client_b does not get client_a_client_a_1 and 17 more .way bytes."},
        clients={"client_b": ["loses"]},
        only=("objects_right",),
    ),
    Sabotage(
        "nothing_is_kept",
        {"objects_right": "does not get client_b_client_b_1 and 8 more"},
        clients={"client_b": ["keeps-nothing"]},
        only=("objects_right",),
    ),
    Sabotage(
        "a_batch_is_mixed_up",
        {"objects_right": "got other bytes than were put under client_a_batch_1 "},
        clients={"client_a": ["mixes-batch"]},
        only=("objects_right",),
    ),
    Sabotage(
        "what_exists_is_denied",
        {"objects_right": "client_b says that objects do not exist which it gets"},
        clients={"client_b": ["denies"]},
        only=("objects_right",),
    ),
    # What does not hide one another is broken at once: each needs a deployment.
    Sabotage(
        "promises_are_broken",
        {
            "existing_key_kept": "client_a got other bytes than were put under existing_client_a",
            "replicas_placed": "two_replicas_client_a was to lie at .*, and lies at",
            "lease_honoured": "Mooncake answered 0 to removing an object .* after it was read, within its lease of 2 s",
            "master_loss_told": "there is no master, and clients do not say so: put -.*, check 0",
        },
        clients={"client_a": ["overwrites", "one-replica", "hides-outage"], "client_b": ["ignores-lease"]},
        only=("existing_key_kept", "replicas_placed", "lease_honoured", "master_loss_told"),
    ),
    Sabotage(
        "what_is_removed_stays",
        {
            "lease_honoured": "Mooncake answered 0 to removing",
            "eviction_right": "are still there after they were removed by force",
        },
        clients={"client_a": ["keeps-removed"], "client_b": ["keeps-removed"]},
        only=("lease_honoured", "eviction_right"),
    ),
    Sabotage(
        "what_is_pinned_is_evicted",
        {"eviction_right": "pinned_0 is soft-pinned, and is gone from a store in which others could have been evicted"},
        clients={"client_a": ["ignores-pin"]},
        only=("eviction_right",),
    ),
    Sabotage(
        "a_lease_does_not_end",
        {"lease_honoured": r"leased_0 cannot be removed \d.* s after it was read last, and its lease is 2 s"},
        master=("--default_kv_lease_ttl=60000",),
        only=("lease_honoured",),
    ),
    Sabotage(
        "a_dead_clients_segment_stays",
        {"client_loss_survived": r"is still with the master \d.* s after its client was killed"},
        master=("--client_ttl=60",),
        only=("client_loss_survived",),
    ),
    Sabotage(
        "a_loss_takes_more_than_the_dead_clients_objects",
        {"client_loss_survived": "client_a does not get stays and 1 more while another client is dead"},
        clients={"client_a": ["loses=3"]},
        only=("client_loss_survived",),
    ),
    Sabotage(
        "success_without_a_master",
        {"master_loss_told": "there is no master, and clients do not say so: put 0, exist 0"},
        clients={"client_a": ["keeps-nothing=1"], "client_b": ["denies"]},
        only=("master_loss_told",),
    ),
]


def judged(trial: Trial, only: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make checks. Returns the evidence of those that failed."""
    run = trial.recorder.run
    monkeypatch.setattr(
        trial.recorder, "run", lambda name, check: run(name, check) if not only or name in only else True
    )
    subject.exercise(trial)
    return {failure.check: failure.evidence for failure in trial.recorder.failures}


@pytest.mark.integration
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_broken_store_is_never_a_pass(
    sabotage: Sabotage,
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for checks in (store_checks, store_outages):
        monkeypatch.setattr(checks, "_LATE_SECONDS", 3.0)  # what never comes need not be waited for as long
    bench.master(*sabotage.master, lease=2)
    for client in ("client_a", "client_b"):
        bench.client(client, *sabotage.clients.get(client, []))
    trial = bench.trial("test_mooncake_store", **SMALL)

    found = judged(trial, sabotage.only, monkeypatch)
    assert found.keys() == sabotage.evidence.keys(), found
    for check, evidence in sabotage.evidence.items():
        assert re.search(evidence, found[check]), found[check]
    assert {failure.class_ for failure in trial.recorder.failures} == {"product"}
    assert all(failure.hint for failure in trial.recorder.failures)


@pytest.mark.integration
@pytest.mark.parametrize("file", ["mooncake/mooncake_master", "mooncake/store.so"])
def test_another_mooncake_than_the_wheels_is_no_basis_for_a_verdict(bench: Bench, file: str) -> None:  # noqa: F811
    bench.change_the_wheel(file)
    bench.master()
    bench.client("client_a")
    bench.client("client_b")
    trial = bench.trial("test_mooncake_store")

    subject.verify(trial)
    (failure,) = trial.recorder.failures
    assert (failure.check, failure.class_, failure.spoils_judgement) == ("wheel_in_use", "configuration", True)
    assert f"/wheel/{file}" in failure.evidence


@pytest.mark.integration
def test_a_service_of_others_is_asked_nothing(bench: Bench) -> None:  # noqa: F811
    bench.master()
    bench.client("client_a")
    bench.client("client_b")
    bench.services[-1] = bench.services[-1].model_copy(update={"started_at": 1.0})
    trial = bench.trial("test_mooncake_store")

    assert not subject.verify(trial)
    assert trial.recorder.failures[0].check == "services_are_ours"
    assert "is not the client_b that this run started" in trial.recorder.failures[0].evidence
    assert [check.status for check in trial.recorder.checks] == ["fail", "pass", *["skipped"] * len(subject.CHECKS[2:])]


@pytest.mark.e2e
def test_a_run_tells_what_is_broken_and_takes_killed_services_for_what_they_are(real_site: Site) -> None:
    report = real_site.run(
        "test_mooncake_store",
        extra_vars={
            "disagg_transport": "rdma",
            "disagg_rdma_preflight": False,
            "disagg_master_arguments": ["--client_ttl=60"],
            "disagg_workloads": {"test_mooncake_store": SMALL},
        },
    )

    assert report.verdict == "fail", report.failures
    failed = {failure.check: failure.evidence for failure in report.failures}
    assert {"transport_used", "client_loss_survived"} <= set(failed), failed
    assert "the bytes went by tcp, and rdma was asked for" in failed["transport_used"]
    assert "is still with the master" in failed["client_loss_survived"]


@pytest.mark.e2e
def test_a_run_in_which_nothing_is_broken_passes(real_site: Site) -> None:
    report = real_site.run("test_mooncake_store")

    assert report.verdict == "pass", report.failures
    assert {check.status for trial in report.models for check in trial.checks} == {"pass"}
