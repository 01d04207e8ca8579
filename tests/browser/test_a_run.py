"""The page of a real run on the simulator, opened as a person would."""

from __future__ import annotations

import os
import shutil
import zlib
from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from pyharness.lifecycle import run_case
from pyharness.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.browser.conftest import Opened

pytestmark = [
    pytest.mark.post_merge,
    pytest.mark.e2e,
    pytest.mark.gpu_0,
    pytest.mark.harness,
    pytest.mark.simulator,
]

CASE = "test_1p1d_erdma"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of a run whose decode server dies at the first request."""
    paths.use_project_ansible()
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISAGG_E2E_HISTORY", str(folder / "history.sqlite"))
        return _run(folder)


def _run(folder: Path) -> Path:
    network = f"127.{zlib.crc32(str(os.getpid()).encode()) % 250 + 2}.44"
    shutil.copytree(paths.INVENTORIES / "simulator" / "group_vars", folder / "inventory" / "group_vars")
    (folder / "inventory" / "hosts.yml").write_text(
        "all:\n  children:\n"
        f"    prefill_nodes: {{hosts: {{prefill: {{ansible_host: {network}.1}}}}}}\n"
        f"    decode_nodes: {{hosts: {{decode: {{ansible_host: {network}.2}}}}}}\n"
    )
    broken = {"disagg_misbehave": {"decode": ["die-on-request"]}}
    options = Options(
        test_case=CASE,
        inventory=folder / "inventory",
        results=folder / "results",
        models=("Qwen/Qwen3-8B",),
        extra_vars=broken,
    )
    assert run_case(options).verdict == "fail"
    return folder / "results"


def test_a_person_finds_out_what_was_wrong(results: Path, visit: Callable[..., Opened]) -> None:
    opened = visit(results / CASE / "report.html")
    page = opened.page
    assert page.get_by_role("heading", level=1).inner_text() == f"✗ {CASE} failed: the product is wrong"
    assert "product: router_ready" in page.get_by_role("heading", level=2).first.inner_text()
    assert page.get_by_text("Simulated engine").is_visible()
    labels = "[...document.querySelectorAll('text.node, text.service')].map((label) => label.firstChild.data)"
    assert sorted(page.evaluate(labels)) == ["decode", "decode", "phases", "prefill", "prefill", "router"]
    page.get_by_label("Search in all logs").fill("simulator")
    page.locator("#hits button").first.click()
    assert page.evaluate("CSS.highlights.get('hit').size") == 1
    opened.keep_picture("run-search")
    assert opened.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_as_wide_as_a_phone(results: Path, visit: Callable[..., Opened], *, dark: bool) -> None:
    opened = visit(results / CASE / "report.html", dark=dark, size=(360, 780))
    opened.keep_picture(f"run-{'dark' if dark else 'light'}-360")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
