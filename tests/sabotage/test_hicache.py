"""A cache in Mooncake Store that does not give back what it took, on real SGLang and Mooncake. Every night.

What neither can be told to do wrong (a flush that lies, damaged pages) is in tests/unit/test_verification_hicache.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import results
from tests.sabotage.test_by_hand import play

if TYPE_CHECKING:
    from pyharness.results import Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.sglang]
requires = "sglang"

CASE = "test_hicache_storage_mooncake_backend"
QWEN, MLA = "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V2-Lite"


def run(site: Site, variant: str = "page_first_direct", model: str = MLA, **options: Any) -> Report:
    return site.run(CASE, models=(model,), variants=(variant,), **options)


def empty_store(site: Site) -> str:
    """Remove all objects, as a client of the store. Returns how many those were."""
    master, server = site.processes("master")[0], site.processes("single")[0]
    door = {name: re.findall(rf"--rpc_{name}=(\S+)", master["command"])[0] for name in ("address", "port")}
    program = (
        "from mooncake.store import MooncakeDistributedStore as Store\n"
        "store = Store()\n"
        f"assert store.setup({door['address']!r}, 'P2PHANDSHAKE', 0, 2**24, 'tcp', '', "
        f"'{door['address']}:{door['port']}') == 0\n"
        "print(store.remove_all(True))\n"
    )
    wheel = str(Path(f"/proc/{master['pid']}/exe").readlink().parents[1])
    done = subprocess.run(
        [server["command"].split()[0], "-c", program],
        env={**os.environ, "PYTHONPATH": wheel, "MC_FORCE_TCP": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def test_what_was_taken_comes_back(real_site: Site) -> None:
    report = run(real_site, model=QWEN)

    assert report.verdict == "pass", report.failures
    evidence = {check.id: check.evidence for check in report.models[0].checks}
    assert evidence["served_from_storage"]["cached"]["storage"] == 384
    tokens = evidence["storage_counted"]["tokens"]
    assert tokens == {"in_the_answer": 384, "counted_by_the_server": 384}
    assert evidence["evaluation_agrees"]["scores"] == [1.0, 1.0]


def test_objects_that_are_lost_while_the_server_forgets_them(real_site: Site) -> None:
    removed: list[str] = []

    def tell(text: str) -> None:
        if text.split() == ["pass", "pages_in_master"]:
            removed.append(empty_store(real_site))

    report = run(real_site, tell=tell)

    assert int(removed[0]) >= 6, "the prompt's pages, those of the request before, and what the server wrote at first"
    assert report.verdict == "fail"
    assert report.failures[0].check == "served_from_storage"
    assert "0 of 427 tokens came from the storage" in report.failures[0].evidence


def test_a_master_that_evicts_what_it_was_given(real_site: Site) -> None:
    evicting = ["--default_kv_lease_ttl=1", "--eviction_high_watermark_ratio=0.0001", "--eviction_ratio=1"]
    report = run(real_site, extra_vars={"disagg_master_arguments": evicting})

    assert report.verdict == "fail"
    assert report.failures[0].check in ("pages_in_master", "served_from_storage")


def test_pages_that_are_written_only_when_there_is_no_room_any_more(real_site: Site) -> None:
    report = run(real_site, extra_vars={"disagg_extra_arguments": ["--hicache-write-policy", "write_back"]})

    assert report.verdict == "fail"
    assert [failure.check for failure in report.failures] == ["pages_in_master"]
    assert "the master has 0 whole pages of deepseek-ai/DeepSeek-V2-Lite" in report.failures[0].evidence


def test_pages_of_another_size_than_asked_for(real_site: Site) -> None:
    report = run(real_site, extra_vars={"disagg_extra_arguments": ["--page-size", "128"]})

    assert report.verdict == "fail"
    assert report.failures[0].check == "cache_as_asked"
    assert "page_size is 128, and 64 was asked for" in report.failures[0].evidence


def test_the_master_is_killed_after_it_was_ready(real_site: Site) -> None:
    killed: list[int] = []

    def tell(text: str) -> None:
        if text.startswith("exercise"):
            for found in real_site.processes("master"):
                os.kill(found["pid"], signal.SIGKILL)
                killed.append(found["pid"])

    report = run(real_site, tell=tell)

    assert killed
    assert report.verdict == "fail"
    assert any("service master on prefill" in failure.evidence for failure in report.failures)


def test_page_first_is_refused_in_the_words_that_the_declaration_expects(real_site: Site) -> None:
    report = run(real_site, "page_first")

    expected = report.models[0].expected
    assert expected is not None
    assert expected.kind == "unsupported"
    assert expected.evidence.startswith("NotImplementedError: sglang-cpu: --hicache-io-backend kernel")


def test_an_arena_without_huge_pages_is_the_known_failure(real_site: Site) -> None:
    report = run(real_site, "arena")

    expected = report.models[0].expected
    assert expected is not None
    assert (expected.kind, expected.check) == ("failure", "arena_as_asked")


def test_by_hand_it_keeps_its_ports_and_changes_nothing_the_second_time(real_site: Site) -> None:
    run_id = results.new_run_id()
    variables = (
        f"disagg_run={run_id}",
        f"disagg_deployment_file={real_site.results / 'deployment.json'}",
        f"disagg_logs_to={real_site.results / 'logs'}",
        "disagg_variant=page_first_direct",
    )
    try:
        first = play(real_site, f"{CASE}.yml", *variables)
        second = play(real_site, f"{CASE}.yml", *variables)
    finally:
        play(real_site, "teardown.yml", *variables)

    assert any(first)
    assert not any(second)
