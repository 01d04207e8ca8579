"""Dynamo broken on purpose, or a fault that does nothing: the checks of test_dynamo_fault_tolerance say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness.faults import on_node
from pyharness.verification import test_dynamo_fault_tolerance as subject
from pyharness.verification import waiting
from pyharness.verification.dynamo import leaving_clients, outages, stalling, streams, worker_faults
from tests.sabotage.test_faults import NOTHING_DONE

if TYPE_CHECKING:
    from pyharness.results import Report
    from tests.sabotage.conftest import Site

requires = ["dynamo", "etcd", "nats"]
pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.dynamo]

CASE = "test_dynamo_fault_tolerance"
TWO = {"prefill_nodes": ["aggregated"], "decode_nodes": ["aggregated"]}


def nothing(*_what: object) -> dict[str, Any]:
    """Stand in for a check that this test is not about."""
    return {}


def failures(report: Report) -> dict[str, str]:
    """Return what counts against a run, by check."""
    return {failure.check: failure.evidence for failure in report.failures if not failure.known}


@pytest.fixture
def only_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no fault but the kill."""
    monkeypatch.setattr(leaving_clients, "cancel_stops", nothing)
    for name in ("drains", "stall_survived"):
        monkeypatch.setattr(worker_faults, name, nothing)


@pytest.mark.pre_merge
@pytest.mark.usefixtures("only_kills")
def test_a_stream_that_does_not_move_although_it_ought_to(real_site: Site) -> None:
    """The frontend is given no migration, and the variant declares it."""
    report = real_site.run(
        CASE, variants=("migration",), extra_vars={"variant": {"migration_limit": 0, "workers": TWO}}
    )

    assert report.verdict == "fail", report.failures
    found = failures(report)
    assert "the stream is not whole" in found["worker_kill_survived"]
    assert "temporarily unavailable" in found["worker_kill_survived"]
    (trial,) = report.models
    assert [fault.recovery_seconds is not None or fault.reverted for fault in trial.faults] == [True]
    skipped = {check.id for check in trial.checks if check.status == "skipped"}
    assert {"usage_after_migration", "worker_named_after_migration"} <= skipped
    assert {defect.state for defect in report.known_defects if defect.check in skipped} == {"not_judged"}


@pytest.mark.nightly
@pytest.mark.usefixtures("only_kills")
def test_a_kill_that_kills_nothing_is_no_verdict_about_dynamo(real_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_node, "KILL", NOTHING_DONE)
    report = real_site.run(CASE, variants=("migration",))

    assert report.verdict == "error", report.failures
    assert "did not take effect" in failures(report)["worker_kill_survived"]
    assert {failure.class_ for failure in report.failures if not failure.known} == {"test"}


@pytest.mark.nightly
def test_a_worker_that_never_comes_back_is_found_by_its_recovery(
    real_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for so long that file discovery drops it, which it does not survive: what is a known defect elsewhere."""
    monkeypatch.setattr(worker_faults, "kill_survived", nothing)
    monkeypatch.setattr(worker_faults, "drains", nothing)
    monkeypatch.setattr(leaving_clients, "cancel_stops", nothing)
    whole = streams.whole

    def whole_at_last(told: Any, tokens: int) -> dict[str, Any]:
        trial, limit = seen[0], seen[0].workload["drop_seconds"]
        assert waiting.until(lambda: len(stalling.known_workers(trial)) == 1, float(limit))[0]
        return whole(told, tokens)

    seen: list[Any] = []
    survived = worker_faults.stall_survived

    def stalled(trial: Any, seed: str) -> dict[str, Any]:
        seen.append(trial)
        return survived(trial, seed)

    monkeypatch.setattr(streams, "whole", whole_at_last)
    monkeypatch.setattr(worker_faults, "stall_survived", stalled)
    variant = {
        "migration_limit": 3,
        "router_mode": "kv",
        "frontend_environment": {"DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS": "2"},
        "workers": TWO,
    }
    report = real_site.run(CASE, variants=("migration",), extra_vars={"variant": variant})

    assert report.verdict == "fail", report.failures
    assert "recovery from stall" in failures(report)["worker_stall_survived"]


@pytest.mark.nightly
def test_limits_that_nobody_can_hold_are_told_with_their_figures(
    real_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured is compared: with limits of nothing each figure is too large."""
    monkeypatch.setattr(worker_faults, "stall_survived", nothing)
    monkeypatch.setattr(worker_faults, "drains", nothing)
    small = {"gap_seconds": 0.0001, "cancel_seconds": 0.0}
    report = real_site.run(CASE, variants=("migration",), extra_vars={"disagg_workloads": {CASE: small}})

    assert report.verdict == "fail", report.failures
    found = failures(report)
    assert "s when its worker was killed; 0.0001 s are allowed" in found["worker_kill_survived"]
    assert "was at work on a request whose client had gone" in found["client_cancel_stops_worker"]


@pytest.mark.nightly
def test_an_etcd_that_loses_its_data_is_found(real_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "nats_outage_survived", nothing)
    monkeypatch.setattr(outages, "newcomer_found", nothing)
    known = outages.instances
    asked: list[list[str]] = []

    def forgetful(etcd: Any) -> list[str]:
        asked.append(known(etcd))
        return asked[-1] if len(asked) == 1 else asked[-1][:-1]

    monkeypatch.setattr(outages, "instances", forgetful)
    report = real_site.run(CASE, variants=("etcd_nats",))

    assert report.verdict == "fail", report.failures
    assert "came back without its data" in failures(report)["etcd_outage_survived"]


@pytest.mark.pre_merge
def test_every_variant_has_its_checks() -> None:
    assert set(subject.CHECKS) >= {check for checks in subject.OF_VARIANT.values() for check in checks}
