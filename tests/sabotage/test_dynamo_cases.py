"""Real Dynamo, deployed otherwise than declared: what the checks of its surface, router and splitting say of it.

Each check's own faults are in tests/unit/test_dynamo_*.py, on recorded answers; here one run of each case at least
shows that a real fault reaches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyharness.results import Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.dynamo]
requires = "dynamo"


def found(report: Report) -> dict[str, str]:
    """Return by check what failed, without what is known."""
    return {one.check: one.evidence for one in report.failures if not one.known}


@pytest.mark.pre_merge
def test_a_frontend_with_another_deadline(real_site: Site) -> None:
    report = real_site.run(
        "test_dynamo_serve",
        variants=("file_tcp_zmq",),
        extra_vars={
            "dynamo_frontend_environment": "{{ disagg_dynamo_environment | combine({"
            "'DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS': '1', 'DYN_RUNTIME_INHIBITED_DURATION_SECS': '1'}) }}"
        },
    )
    assert report.verdict == "fail"
    told = found(report)
    assert set(told) == {"timeout_told"}
    assert "504 came after 1." in told["timeout_told"]


@pytest.mark.nightly
def test_a_worker_that_serves_another_model(real_site: Site) -> None:
    report = real_site.run(
        "test_dynamo_serve",
        variants=("file_tcp_zmq",),
        extra_vars={
            "disagg_workloads": {"test_dynamo_serve": {"well_seconds": 2}},
            "dynamo_worker_model_name": "{{ 'nobody/else' if disagg_worker.name == 'worker-2' else disagg_model }}",
        },
    )
    assert report.verdict == "fail"
    assert "not every worker answers: {'answered': {'worker-1': 4}" in found(report)["every_worker_answers"]


@pytest.mark.pre_merge
def test_a_router_that_goes_by_turns_where_kv_is_declared(real_site: Site) -> None:
    report = real_site.run(
        "test_dynamo_router", variants=("kv_zmq",), extra_vars={"dynamo_frontend_router_mode": "round-robin"}
    )
    assert report.verdict == "fail"
    told = found(report)
    assert {"routed_as_declared", "router_took_events", "router_knows_prefixes"} <= set(told)
    assert "requests went to the worker that holds their beginning, and 95%" in told["routed_as_declared"]
    assert "the router has applied {'stored': 0" in told["router_took_events"]
    assert not {"balanced", "indexer_equals_events", "worker_joins", "worker_leaves"} & set(told)


@pytest.mark.nightly
def test_a_router_without_kv_events(real_site: Site) -> None:
    report = real_site.run(
        "test_dynamo_router",
        variants=("kv_zmq",),
        extra_vars={"dynamo_frontend_extra_arguments": ["--no-router-kv-events"]},
    )
    assert report.verdict == "fail"
    told = found(report)
    assert "router_took_events" in told
    # What it has only guessed is not true any more once workers have dropped blocks.
    assert "10 dropped beginnings were routed otherwise" in told["router_knows_prefixes"]


@pytest.mark.nightly
def test_nats_without_jetstream_where_it_is_declared(real_site: Site) -> None:
    report = real_site.run("test_dynamo_router", variants=("kv_nats_jetstream",), extra_vars={"nats_jetstream": False})
    (failed,) = [one for one in report.failures if not one.known]
    assert (failed.check, failed.class_) == ("nats_as_declared", "configuration")
    assert failed.evidence == "JetStream of NATS is off, and on is declared"


@pytest.mark.pre_merge
def test_a_router_that_may_not_choose(real_site: Site) -> None:
    report = real_site.run(
        "test_dynamo_disagg", variants=("conditional",), extra_vars={"dynamo_frontend_extra_arguments": []}
    )
    assert report.verdict == "fail"
    told = found(report)
    assert set(told) == {"short_rest_local"}
    assert "of 2 requests that decode was to answer alone, prefill took 2, and decode 2" in told["short_rest_local"]


@pytest.mark.nightly
def test_a_worker_for_both_where_decode_is_declared(real_site: Site) -> None:
    report = real_site.run(
        "test_dynamo_disagg",
        variants=("decode_only",),
        extra_vars={
            "dynamo_worker_mode": "{{ 'aggregated' if disagg_worker.mode == 'decode' else disagg_worker.mode }}"
        },
    )
    assert report.verdict == "fail"
    assert "not_served_without_prefill" in found(report)
