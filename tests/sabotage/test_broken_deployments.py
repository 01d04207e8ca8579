"""Deployments broken on purpose: never a pass, always the right check and class.

The engine is the simulator, which misbehaves on demand; Mooncake and the router are real.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]


@dataclass(frozen=True)
class Sabotage:
    """What is broken, and what has to come of it.

    Attributes:
        name: what is broken.
        variables: extra variables that break it.
        verdict: the verdict that has to be given.
        checks: the checks that have to fail, the first cause first; no other may fail.
        class_: the class of the first failure.
        evidence: expression that the first failure's evidence has to match.
    """

    name: str
    variables: dict[str, Any]
    verdict: str
    checks: tuple[str, ...]
    class_: str
    evidence: str
    options: dict[str, Any] = field(default_factory=dict)


def decode(*misbehaviour: str) -> dict[str, Any]:
    return {"disagg_misbehave": {"decode": list(misbehaviour)}}


def both(*misbehaviour: str) -> dict[str, Any]:
    return {"disagg_misbehave": {"decode": list(misbehaviour), "prefill": list(misbehaviour)}}


SABOTAGES = [
    Sabotage("http_500", decode("http-500"), "fail", ("router_ready", "answer_correct"), "product", "HTTP 500"),
    Sabotage(
        "error_object", decode("error-object"), "fail", ("router_ready", "answer_correct"), "product", "error object"
    ),
    Sabotage("empty_text", decode("empty-text"), "fail", ("router_ready", "answer_correct"), "product", "empty text"),
    Sabotage("not_json", decode("not-json"), "fail", ("router_ready", "answer_correct"), "product", "HTTP 200, but"),
    Sabotage(
        "wrong_text", decode("wrong-text"), "fail", ("answer_correct",), "product", "differs from what one engine"
    ),
    Sabotage("second_answer_500", decode("error-after=1"), "fail", ("answer_correct",), "product", "HTTP 500"),
    Sabotage("decode_dies_on_request", decode("die-on-request"), "fail", ("router_ready",), "product", "has ended"),
    Sabotage(
        "decode_dies_after_ready", decode("die-after-ready=1"), "fail", ("answer_correct",), "product", "has ended"
    ),
    Sabotage(
        "decode_recomputes", decode("recompute"), "fail", ("kv_cache_moved", "transport_used"), "product", "itself"
    ),
    Sabotage(
        "half_a_transfer",
        decode("short-transfer"),
        "fail",
        ("kv_cache_moved", "transport_used"),
        "product",
        "15360 bytes of KV cache moved, and this prompt of 30 tokens has 30720",
    ),
    Sabotage(
        "half_a_transfer_told_as_whole",
        both("short-transfer"),
        "fail",
        ("transport_used",),
        "product",
        "15384 bytes over TCP.*30720 needed",
    ),
    Sabotage("counters_lie", both("no-transfer-but-lies"), "fail", ("transport_used",), "product", "0 bytes over TCP"),
    Sabotage(
        "rdma_asked_tcp_used",
        # The preflight would say it at once. Without it Mooncake takes TCP in silence, the check finds that out, and
        # Mooncake's log says why: there is no device. With devices there it would be the product's failure.
        {"disagg_transport": "rdma", "disagg_rdma_preflight": False},
        "error",
        ("transport_used",),
        "infrastructure",
        "went by tcp, and rdma was asked for",
    ),
    Sabotage(
        "rdma_asked_and_no_device",
        {"disagg_transport": "rdma"},
        "error",
        ("provision",),
        "infrastructure",
        "no RDMA device",
    ),
    Sabotage("wrong_model", decode("wrong-model"), "error", ("services_are_ours",), "configuration", "serves .*, not"),
    Sabotage(
        "no_mooncake_at_all",
        {"disagg_extra_arguments": ["--role", "single"]},
        "error",
        ("wheel_in_use", "kv_cache_moved", "transport_used"),
        "configuration",
        "no Mooncake in the processes of prefill",
    ),
    Sabotage("health_hangs", decode("health-hangs"), "fail", ("services_ready",), "product", "did not answer GET"),
    Sabotage("never_ready", decode("never-ready"), "fail", ("services_ready",), "product", "not ready after"),
    Sabotage("dies_before_ready", decode("die-before-ready"), "fail", ("services_ready",), "product", "Traceback"),
    Sabotage("ready_line_but_dead", decode("ready-but-dead"), "fail", ("services_ready",), "product", "exit status"),
    Sabotage("exits_after_start", decode("exit-after-start=0"), "fail", ("services_ready",), "product", "died"),
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_broken_deployment_is_never_a_pass(sabotage: Sabotage, site: Site) -> None:
    report = site.run(extra_vars=sabotage.variables, **sabotage.options)

    assert report.verdict == sabotage.verdict, report.failures
    assert tuple(dict.fromkeys(failure.check for failure in report.failures)) == sabotage.checks
    assert report.failures[0].class_ == sabotage.class_
    assert re.search(sabotage.evidence, report.failures[0].evidence), report.failures[0].evidence
    assert all(failure.hint for failure in report.failures)


HARMLESS = {
    "nothing": {},
    "counters_late": {"disagg_misbehave": {"prefill": ["late-counters=1"]}},
    "ignores_sigterm": both("ignore-sigterm"),
    "leaves_a_child": decode("leave-child"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_defect_of_the_answer_passes_and_leaves_nothing(name: str, site: Site) -> None:
    report = site.run(extra_vars=HARMLESS[name])

    assert report.verdict == "pass", report.failures
    assert {check.status for model in report.models for check in model.checks} == {"pass"}
    assert report.simulated is True
    assert report.transport.used == "tcp"
