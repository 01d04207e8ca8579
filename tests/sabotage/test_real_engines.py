"""The same on real engines: SGLang on the CPU, Mooncake, the router. About a minute each, so every night."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.e2e,
    pytest.mark.gpu_0,
    pytest.mark.sglang,
    pytest.mark.needs_model("Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V2-Lite", inventory="local"),
]
requires = "sglang"

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (looked at, not written to)
MLA = "deepseek-ai/DeepSeek-V2-Lite"


def test_the_whole_job_passes(real_site: Site) -> None:
    report = real_site.run()

    assert report.verdict == "pass", report.failures
    assert report.simulated is False


def test_two_plain_servers_without_mooncake(real_site: Site) -> None:
    report = real_site.run(extra_vars={"disagg_extra_arguments": ["--disaggregation-mode", "null"]})

    assert report.verdict == "error"
    assert {failure.check for failure in report.failures} == {"wheel_in_use", "kv_cache_moved", "transport_used"}
    answer = next(check for check in report.models[0].checks if check.id == "answer_correct")
    assert answer.status == "pass", "the identical text is what makes this one hard to see"


def test_rdma_is_asked_for_and_mooncake_takes_tcp_in_silence(real_site: Site) -> None:
    report = real_site.run(models=(MLA,), extra_vars={"disagg_transport": "rdma", "disagg_rdma_preflight": False})

    assert report.verdict == "fail"
    assert [failure.check for failure in report.failures] == ["transport_used"]
    assert report.transport.requested == "rdma"
    assert report.transport.used == "tcp"


def test_other_weights_than_the_references(real_site: Site) -> None:
    report = real_site.run(extra_vars={"disagg_extra_arguments": ["--load-format", "dummy"]})

    assert report.verdict == "fail"
    assert report.failures[0].check == "answer_correct"


def test_decode_is_killed_after_it_was_ready(real_site: Site) -> None:
    killed: list[int] = []

    def kill_decode() -> None:
        """Kill decode's whole group as soon as the run says that it verifies."""
        for found in node_state.run_processes(service="decode"):
            if real_site.decode in found["command"]:
                os.kill(found["pid"], signal.SIGKILL)
                killed.append(found["pid"])

    def tell(text: str) -> None:
        if text.startswith("exercise"):
            thread = threading.Thread(target=kill_decode)
            thread.start()
            thread.join()

    report = real_site.run(tell=tell)

    assert killed
    assert report.verdict == "fail"
    assert report.failures[0].class_ == "product"
    assert "service decode on decode" in report.failures[0].evidence


def test_a_server_that_cannot_load_its_model(real_site: Site) -> None:
    report = real_site.run(extra_vars={"disagg_extra_arguments": ["--context-length", "not-a-number"]})

    assert report.verdict == "fail"
    assert report.failures[0].check == "services_ready"
    assert "died" in report.failures[0].evidence


def test_decodes_scheduler_dies_and_its_launcher_lives_on(real_site: Site) -> None:
    killed: list[int] = []

    def tell(text: str) -> None:
        if not text.startswith("exercise"):
            return
        for found in node_state.run_processes(service="decode"):
            if "scheduler" in found["command"]:
                os.kill(found["pid"], signal.SIGKILL)
                killed.append(found["pid"])

    before = set(SHARED_MEMORY.iterdir())
    report = real_site.run(tell=tell)

    assert killed
    assert report.verdict == "fail"
    assert "service decode on decode" in report.failures[0].evidence
    assert set(SHARED_MEMORY.iterdir()) <= before, "what a killed process had mapped is removed too"
