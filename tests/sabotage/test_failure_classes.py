"""Each class of failure provoked on the simulator: verdict, class, rule, line and host, the first cause first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.classification import rules
from tests.sabotage.conftest import CASE

if TYPE_CHECKING:
    from pyharness.results import Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

DECODE = "logs/Qwen__Qwen3-8B/sglang_server_remote.log"
PREFILL = "logs/Qwen__Qwen3-8B/sglang_server_local.log"
REQUESTS = "logs/Qwen__Qwen3-8B/curl_response.log"


@dataclass(frozen=True)
class Provoked:
    """What is broken, and how it has to be told.

    Attributes:
        name: what is broken.
        variables: extra variables that break it.
        verdict: the run's.
        class_: the first failure's.
        check: the first failure's.
        rule: the first failure's.
        file: where the line stands that shows it; None: no log shows it.
        host: whose log that is; None: the harness's own.
        text: what that line holds.
        consequences: checks that failed because of it.
    """

    name: str
    variables: dict[str, Any]
    verdict: str
    class_: str
    check: str
    rule: str
    file: str | None = None
    host: str | None = None
    text: str = ""
    consequences: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def decode(*misbehaviour: str) -> dict[str, Any]:
    return {"disagg_misbehave": {"decode": list(misbehaviour)}}


def last_words(rule: str) -> dict[str, Any]:
    return decode(f"last-words={example(rule)}")


def example(rule: str) -> str:
    known = rules.load().named(rule)
    assert known is not None
    return known.example


def died(rule: str, class_: str, verdict: str) -> Provoked:
    """Return a decode server that ends with a rule's example."""
    return Provoked(rule, last_words(rule), verdict, class_, "services_ready", rule, DECODE, "decode", example(rule))


PROVOKED = [
    died("infra.disk_full", "infrastructure", "error"),
    died("infra.gpu_lost", "infrastructure", "error"),
    died("config.model_not_found", "configuration", "error"),
    died("unsupported.architecture", "unsupported", "error"),
    died("mooncake.memory_not_registered", "infrastructure", "error"),
    died("product.segfault", "product", "fail"),
    Provoked(
        "python_traceback", decode("die-before-ready"), "fail", "product", "services_ready", "product.python_traceback",
        DECODE, "decode", "RuntimeError: simulated failure before readiness",
    ),
    Provoked(
        "nobody_knows_why", decode("ready-but-dead"), "fail", "product", "services_ready", "service.died",
        DECODE, "decode", # its last words, whatever they are: two threads have some
    ),
    Provoked(
        "unknown_argument", {"disagg_extra_arguments": ["--no-such-argument"]}, "error", "configuration",
        "services_ready", "config.unknown_argument", None,
    ),
    Provoked(
        "ended_on_request", decode("die-on-request"), "fail", "product", "router_ready", "service.ended",
        DECODE, "decode", "killing myself",
    ),
    Provoked(
        "http_500", decode("http-500"), "fail", "product", "router_ready", "http.500",
        REQUESTS, None, "< HTTP 500", ("answer_correct",),
    ),
    Provoked(
        "http_500_of_a_full_gpu", decode("http-500", f"say={example('infra.gpu_out_of_memory')}"), "error",
        "infrastructure", "router_ready", "infra.gpu_out_of_memory", DECODE, "decode", "CUDA out of memory",
        ("answer_correct",),
    ),
    Provoked(
        "no_transfer", decode("recompute"), "fail", "product", "kv_cache_moved", "check.kv_cache_moved",
        consequences=("transport_used",),
    ),
    Provoked(
        "no_transfer_and_mooncake_says_why", decode("recompute", f"say={example('mooncake.transfer_failed')}"), "fail",
        "product", "kv_cache_moved", "mooncake.transfer_failed", DECODE, "decode", "task failures", ("transport_used",),
    ),
    Provoked(
        "wrong_text", decode("wrong-text"), "fail", "product", "answer_correct", "check.answer_correct",
    ),
    Provoked(
        "no_mooncake", {"disagg_extra_arguments": ["--role", "single"]}, "error", "configuration", "wheel_in_use",
        "check.wheel_in_use", consequences=("kv_cache_moved", "transport_used"),
    ),
    Provoked(
        "no_rdma", {"disagg_transport": "rdma"}, "error", "infrastructure", "provision", "infra.rdma_device_missing",
        "logs/ansible/provision.log", "prefill", "fatal: [prefill]",
    ),
    Provoked(
        "trouble_in_the_log_of_a_pass", decode(f"say={example('product.pool_leak')}"), "fail", "product", "logs_clean",
        "product.pool_leak", DECODE, "decode", "memory leak detected!",
    ),
    Provoked(
        "a_full_disk_in_the_log_of_a_pass", {"disagg_misbehave": {"prefill": [f"say={example('infra.disk_full')}"]}},
        "error", "infrastructure", "logs_clean", "infra.disk_full", PREFILL, "prefill", "No space left",
    ),
]  # fmt: skip


@pytest.mark.parametrize("provoked", PROVOKED, ids=lambda provoked: provoked.name)
def test_a_failure_explains_itself(provoked: Provoked, site: Site) -> None:
    report = site.run(extra_vars=provoked.variables, **provoked.options)

    first = report.failures[0]
    assert report.verdict == provoked.verdict, report.failures
    assert (first.class_, first.check, first.rule) == (provoked.class_, provoked.check, provoked.rule), first
    assert not first.consequence
    # The same on another node follows as well, where that came so far.
    others = [entry.check for entry in report.failures[1:] if entry.consequence and entry.check != first.check]
    assert tuple(others) == provoked.consequences
    if provoked.file:
        assert first.line is not None
        assert (first.line.file, first.line.host) == (provoked.file, provoked.host)
        assert provoked.text in first.line.text
    lines_are_there(report, site)


def lines_are_there(report: Report, site: Site) -> None:
    """Check that each failure has a known rule, and that its line stands where it says."""
    for failure in report.failures:
        assert failure.rule is not None
        assert rules.load().knows(failure.rule)
        assert failure.hint
        if failure.line and failure.line.line:
            lines = (site.results / CASE / failure.line.file).read_text().split("\n")
            assert failure.line.text in lines[failure.line.line - 1]


def test_what_cannot_run_here_is_unsupported(site: Site) -> None:
    report = site.run("test_vllm_1p1d_erdma")

    assert report.verdict == "error"
    assert {(failure.class_, failure.rule) for failure in report.failures} == {("unsupported", "ansible.unsupported")}
    assert report.failures[0].line is not None
    assert report.failures[0].line.file == "logs/ansible/provision.log"


def test_the_logs_of_a_pass_are_searched_and_said_to_be_clean(site: Site) -> None:
    report = site.run()

    assert report.verdict == "pass", report.failures
    (check,) = [check for check in report.models[0].checks if check.id == "logs_clean"]
    assert (check.status, check.evidence["logs"], check.evidence["lines"]) == ("pass", 3, 0)
