"""vLLM's case on real engines: vLLM on the CPU, Mooncake, the project's proxy. About a minute each, so every night."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.results import Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.vllm]
requires = "vllm"

CASE = "test_vllm_1p1d_erdma"


def failed(report: Report) -> list[str]:
    return [failure.check for failure in report.failures]


def statuses(report: Report) -> dict[str, str]:
    return {check.id: check.status for check in report.models[0].checks}


def killing(site: Site, service: str, part: str, killed: list[int]) -> Callable[[str], None]:
    """Return what kills the processes of a service whose command has this part, once requests are about to be made."""

    def tell(text: str) -> None:
        if not text.startswith("exercise"):
            return
        for found in site.processes(service):
            if part in found["command"]:
                os.kill(found["pid"], signal.SIGKILL)
                killed.append(found["pid"])

    return tell


def test_the_whole_case_passes(real_site: Site) -> None:
    report = real_site.run(CASE)

    assert report.verdict == "pass", report.failures
    assert report.transport.used == "tcp"
    moved = next(check for check in report.models[0].checks if check.id == "kv_cache_moved").evidence
    assert moved["counters"]["decode"] == {"computed_tokens": 0, "external_tokens": moved["prompt_tokens"]}


def test_a_proxy_forgets_to_have_the_kv_cache_moved(real_site: Site) -> None:
    report = real_site.run(CASE, extra_vars={"disagg_misbehave": {"router": ["forget-kv-transfer"]}})

    assert report.verdict == "fail"
    assert failed(report) == ["kv_cache_moved", "transport_used"]
    assert "tokens itself and took 0 from prefill" in report.failures[0].evidence
    assert statuses(report)["answer_correct"] == "pass", "the identical text is what makes this one hard to see"


def test_rdma_is_asked_for_and_mooncake_takes_tcp_in_silence(real_site: Site) -> None:
    report = real_site.run(CASE, extra_vars={"disagg_transport": "rdma", "disagg_rdma_preflight": False})

    assert report.verdict == "fail"
    assert failed(report) == ["transport_used"]
    assert (report.transport.requested, report.transport.used) == ("rdma", "tcp")


def test_decode_is_killed_after_it_was_ready(real_site: Site) -> None:
    killed: list[int] = []
    report = real_site.run(CASE, tell=killing(real_site, "decode", "", killed))

    assert killed
    assert report.verdict == "fail"
    assert report.failures[0].class_ == "product"
    assert "service decode on decode" in report.failures[0].evidence


def test_prefills_worker_dies_and_its_server_lives_on(real_site: Site) -> None:
    killed: list[int] = []
    report = real_site.run(CASE, tell=killing(real_site, "prefill", "VLLM::Worker", killed))

    assert killed
    assert report.verdict == "fail"
    assert "service prefill on prefill" in report.failures[0].evidence


def test_a_server_that_cannot_read_its_arguments(real_site: Site) -> None:
    report = real_site.run(CASE, extra_vars={"disagg_extra_arguments": ["--max-model-len", "not-a-number"]})

    assert report.verdict == "fail"
    assert failed(report) == ["services_ready"]
    assert "died: exit status 2" in report.failures[0].evidence
