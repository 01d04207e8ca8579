"""Several servers on each side, and one of them that is not what the others are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.simulator]

CASE = "test_xpyd"


@pytest.fixture
def four(site: Site) -> Site:
    """Return a site with two prefill and two decode nodes."""
    groups = []
    for kind, first in (("prefill", site.prefill), ("decode", site.decode)):
        network, _, last = first.rpartition(".")
        hosts = f"{kind}1: {{ansible_host: {first}}}, {kind}2: {{ansible_host: {network}.{int(last) + 10}}}"
        groups.append(f"    {kind}_nodes: {{hosts: {{{hosts}}}}}\n")
    (site.inventory / "hosts.yml").write_text("all:\n  children:\n" + "".join(groups))
    return site


def checks(report: Any) -> list[str]:
    return [failure.check for failure in report.failures]


def test_two_of_each_pass_and_each_has_carried_its_part(four: Site) -> None:
    report = four.run(CASE)
    assert report.verdict == "pass", report.failures
    found = {check.id: check.evidence for check in report.models[0].checks}
    assert set(found["every_server_took_part"]["finished"]) == {"prefill-1", "prefill-2", "decode-1", "decode-2"}
    assert min(found["every_server_took_part"]["finished"].values()) >= 1
    assert found["kv_cache_moved"]["servers"]["decode-2"]["received_bytes"] >= found["kv_cache_moved"]["bytes_each"]


def test_one_decode_server_of_two_computes_by_itself(four: Site) -> None:
    report = four.run(CASE, extra_vars={"disagg_misbehave": {"decode-2": ["recompute"]}})
    assert report.verdict == "fail"
    assert "kv_cache_moved" in checks(report)
    told = next(failure.evidence for failure in report.failures if failure.check == "kv_cache_moved")
    assert "decode (decode-2 on decode2) prefilled" in told


def test_one_decode_server_of_two_says_other_words(four: Site) -> None:
    report = four.run(CASE, extra_vars={"disagg_misbehave": {"decode-1": ["wrong-text"]}})
    assert report.verdict == "fail"
    assert checks(report) == ["answers_correct"]
    assert "of 2: " in report.failures[0].evidence


def test_a_router_that_does_not_know_one_decode_server(four: Site) -> None:
    report = four.run(CASE, extra_vars={"pd_router_decode": [f"http://{four.decode}:30001"]})
    assert report.verdict == "fail"
    assert checks(report) == ["every_server_took_part"]
    assert "1 of 4 servers have finished none of 8 requests: decode-2" in report.failures[0].evidence
