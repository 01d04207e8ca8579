"""The verb `bench` on a real deployment: Dynamo with its simulated engine, and prompts that are too long for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import cli

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

requires = ["dynamo", "aiperf"]
pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.dynamo, pytest.mark.harness]

CASE = "test_dynamo_disagg"


def bench(site: Site, *words: str) -> tuple[int, dict[str, Any]]:
    given = ["bench", CASE, "-i", str(site.inventory), "--results", str(site.results), "--requests", "8"]
    code = cli.main([*given, "--concurrency", "1,4", "--output-tokens", "6", *words])
    left = [found["run"] for found in node_state.run_processes() if site.prefill in found["command"]]
    assert left == []
    return code, json.loads((site.results / f"bench_{CASE}" / "bench.json").read_text())


def test_a_deployment_is_measured_and_taken_down(real_site: Site) -> None:
    code, document = bench(real_site, "--input-tokens", "32")

    assert code == 0
    assert [turn["succeeded"] for turn in document["turns"]] == [8, 8]
    assert document["nodes_clean"] is True
    assert document["simulated"] is True
    assert document["versions"]["ai-dynamo"] == "1.6.1"
    for turn in document["turns"]:
        assert turn["figures"]["output_tokens"] == 6
        assert 0 < turn["figures"]["time_to_first_token_ms"]["p50"] <= turn["figures"]["request_latency_ms"]["p50"]
    # A run's own results are another matter.
    assert not (real_site.results / CASE).exists()


def test_prompts_that_the_model_refuses_are_not_measured(real_site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    short = json.dumps({CASE: {"max_model_len": 128}})
    code, document = bench(real_site, "--input-tokens", "32,500", "-e", f"disagg_workloads={short}")

    assert code == 2
    assert [point["runs"] for point in document["points"]] == [[1, 1], [1, 1], [0, 1], [0, 1]]
    assert [point["failed"] for point in document["points"]] == [0, 0, 8, 8]
    assert capsys.readouterr().err.count("not measured: no request succeeded: ") == 2
