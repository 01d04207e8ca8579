"""report.html, summary.html and bench.html in a real browser: what a person sees, with eyes and without."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from pyharness import html_report, summaries
from pyharness.loadtest import results
from tests.browser.conftest import DESKTOP, PHONE
from tests.unit import report_sample as sample
from tests.unit.builders import make_failure, make_report
from tests.unit.test_loadtest import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.browser.conftest import Opened

    Visit = Callable[..., Opened]

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "test_it"
    folder.mkdir()
    sample.write_logs(folder)
    failed = sample.failed_report()
    (folder / "report.json").write_text(json.dumps(failed.to_json()))
    return html_report.write(folder, failed, sample.GREEN)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("summary")
    passed = make_report(test_case="test_ok", simulated=True)
    passed.judge()
    refused = make_failure(**{"class": "unsupported"}, spoils_judgement=True)
    unsupported = make_report(test_case="test_unsupported_with_a_long_name", failures=[refused])
    unsupported.judge()
    reports = [passed, sample.failed_report(), unsupported]
    summaries.write(folder, reports, [*(report.test_case for report in reports), "test_later"])
    return folder / "summary.html"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    good, lost = (replace(read(*which), raw=f"raw/{which[0]}") for which in (("whole", 4), ("none", 20)))
    measures = [replace(good, point={**good.point, "concurrency": count}) for count in (1, 4, 16)] + [lost]
    subject: dict[str, Any] = dict.fromkeys(("variant", "requests", "seconds", "stand_in", "engine"))
    subject |= {"test_case": "test_it", "started_at": "2026-01-01T00:00:00Z", "url": "http://127.0.0.11:8000"}
    subject |= {"model": "org/model", "tool": {"name": "aiperf", "version": "0.13.0"}, "runs": 1, "seed": 0}
    subject |= {"notes": ["The engine is simulated"], "nodes_clean": True, "versions": {}, "services": []}
    found = results.document(subject, measures)
    results.write(folder, found, measures)
    return folder / "bench.html"


def wide(opened: Opened) -> int:
    """Return by how much the page is wider than its window."""
    return int(opened.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def unfold(opened: Opened) -> None:
    """Open every fold of the page."""
    opened.page.evaluate("for (const fold of document.querySelectorAll('details')) { fold.open = true; }")


def violations(opened: Opened) -> list[Any]:
    """Return what axe (https://github.com/dequelabs/axe-core) finds wrong for people who cannot see or use a mouse."""
    found = Axe().run(opened.page, options=WCAG).response["violations"]
    return [(entry["id"], [node["html"][:120] for node in entry["nodes"][:3]]) for entry in found]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("which", ["report", "summary", "bench"])
def test_a_page_on_each_screen(
    request: pytest.FixtureRequest, visit: Visit, which: str, size: tuple[int, int], *, dark: bool
) -> None:
    opened = visit(request.getfixturevalue(which), dark=dark, size=size)
    opened.keep_picture(f"{which}-{'dark' if dark else 'light'}-{size[0]}")
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert wide(opened) == 0
    unfold(opened)
    assert wide(opened) == 0
    if size == DESKTOP:  # what is wrong there is wrong on a phone, and looking takes seconds
        assert violations(opened) == []
    assert opened.complaints == []


def test_the_page_asks_nobody_for_anything_and_no_log_gets_to_run(visit: Visit, report: Path) -> None:
    opened = visit(report)
    assert [url for url in opened.asked if not url.startswith("data:")] == [report.resolve().as_uri()]
    assert opened.page.title() == "✗ test_it: fail"  # a hostile log would have changed it


def test_the_search_finds_a_line_and_leads_to_it(visit: Visit, report: Path) -> None:
    opened = visit(report)
    page = opened.page
    page.get_by_label("Search in all logs").fill("connection RESET by")
    page.get_by_text("1 hit in 1 of 4 logs").wait_for()
    hit = page.locator("#hits button")
    assert hit.count() == 1
    assert hit.inner_text().startswith("org__model/sglang_server_remote.log, line 4000")
    fold = page.locator("details:has(pre[data-log='org__model/sglang_server_remote.log'])").last
    assert fold.get_attribute("open") is None
    hit.click()
    assert fold.get_attribute("open") is not None
    assert page.evaluate("[...CSS.highlights.get('hit')][0].toString()") == "Connection reset by"
    seen = page.evaluate(
        "(() => { const at = [...CSS.highlights.get('hit')][0].getBoundingClientRect();"
        " return at.top > 0 && at.bottom < innerHeight; })()"
    )
    assert seen
    opened.keep_picture("report-search")
    assert opened.complaints == []


def test_the_search_counts_all_and_lists_some(visit: Visit, report: Path) -> None:
    page = visit(report).page
    page.get_by_label("Search in all logs").fill("a batch of")
    page.get_by_text("the first 200 are listed").wait_for()
    assert page.locator("#hits button").count() == 200
    page.get_by_label("Search in all logs").fill("<script>")
    page.get_by_text("1 hit in 1 of 4 logs").wait_for()
    assert "document.title" in page.locator("#hits button").inner_text()
    page.get_by_label("Search in all logs").fill("nowhere to be found")
    page.get_by_text("No hit.").wait_for()


@pytest.mark.parametrize("scripts", [True, False], ids=["with_script", "without"])
def test_the_line_that_a_failure_names_is_one_click_away(visit: Visit, report: Path, *, scripts: bool) -> None:
    page = visit(report, scripts=scripts).page
    page.get_by_role("link", name="sglang_server_remote.log:4000").click()
    page.locator("mark:target").wait_for()
    assert page.locator("mark:target").inner_text() == sample.CAUSE


def test_everything_is_reached_with_the_keyboard(visit: Visit, report: Path) -> None:
    page = visit(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    seen = set()
    for _press in range(60):
        page.keyboard.press("Tab")
        tag = page.evaluate("document.activeElement.tagName")
        if tag == "BODY":  # after the last of them
            break
        seen.add(tag)
        assert page.evaluate(outline) == "solid", page.evaluate("document.activeElement.outerHTML")[:200]
    assert seen >= {"A", "SUMMARY", "INPUT", "BUTTON", "DIV"}


def test_the_page_prints_without_what_only_a_screen_needs(visit: Visit, report: Path) -> None:
    page = visit(report, dark=True).page
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#search").is_visible()
    assert len(page.pdf(format="A4")) > 10_000
