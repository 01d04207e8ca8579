"""Servers of different ranks that are not what the case says, on real engines. About a minute each, so every night."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

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

CASE = "test_disaggregation_different_tp"
QWEN, MLA = "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V2-Lite"


def test_latent_cache_to_two_ranks_passes_with_every_byte_counted(real_site: Site) -> None:
    report = real_site.run(CASE, models=(MLA,), variants=("prefill1_decode2",))

    assert report.verdict == "pass", report.failures
    moved = next(check for check in report.models[0].checks if check.id == "kv_cache_moved")
    assert moved.evidence["ranks"] == {"prefill": 1, "decode": 2}
    assert moved.evidence["bytes_moved"] == moved.evidence["prompt_tokens"] * 2 * (2 * 80 * 4)


def test_both_servers_have_one_rank(real_site: Site) -> None:
    report = real_site.run(
        CASE,
        models=(QWEN,),
        variants=("prefill1_decode2",),
        extra_vars={"disagg_extra_arguments": ["--tp-size", "1"]},
    )

    assert report.verdict == "error"
    assert [failure.check for failure in report.failures] == ["ranks_as_declared"]
    assert "decode on prefill runs with tp_size 1, and 2 was asked for" in report.failures[0].evidence


def test_a_rank_of_decode_dies(real_site: Site) -> None:
    killed: list[int] = []

    def tell(text: str) -> None:
        if not text.startswith("exercise"):
            return
        for found in real_site.processes("decode"):
            if "scheduler_TP1" in found["command"]:
                os.kill(found["pid"], signal.SIGKILL)
                killed.append(found["pid"])

    report = real_site.run(CASE, models=(QWEN,), variants=("prefill1_decode2",), tell=tell)

    assert killed
    assert report.verdict == "fail"
    assert "service decode on prefill" in report.failures[0].evidence
