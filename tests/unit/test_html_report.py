"""report.html: what stands where, what is left out, and that nothing from a node becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from pyharness import html_report, redaction
from pyharness.results import KnownFlake, Repeat
from tests.unit import report_sample as sample
from tests.unit.builders import make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

OPEN_EVER = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """What a browser makes of a page: its elements, their text, and whether all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch(r"h\d", tag):
            self.headings.append((int(tag[1]), ""))
        if tag not in OPEN_EVER:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.stack):
            self.text.append(data)
        if any(re.fullmatch(r"h\d", tag) for tag in self.stack):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _tag, attributes in self.elements if "id" in attributes]

    @property
    def words(self) -> str:
        return "".join(self.text)


def make(folder: Path, report: Report | None = None, *, green: bool = True) -> Page:
    path = html_report.write(folder, report or sample.failed_report(), sample.GREEN if green else None)
    assert sorted(path.parent.glob(".report.html*")) == []
    return Page(path.read_text())


@pytest.fixture
def page(tmp_path: Path) -> Page:
    sample.write_logs(tmp_path)
    return make(tmp_path)


def test_the_verdict_and_its_first_cause_stand_on_top(page: Page) -> None:
    assert page.headings[0] == (1, "✗ test_it failed: the product is wrong")
    assert page.headings[1] == (2, "product: answer_correct (org/model)")
    words = page.words
    order = ("failed: the product", "Simulated engine", "HTTP 502", "4000", sample.CAUSE, "see why", "as a table")
    places = [words.index(part) for part in order]
    assert places == sorted(places)


def test_consequences_are_folded_below_the_cause(page: Page) -> None:
    words = page.words
    assert words.index("2 consequences of it") < words.index("nothing was carried") < words.index("as a table")


def test_a_consequence_is_never_the_first_cause_where_there_is_another(tmp_path: Path) -> None:
    failures = [make_failure(check="late", consequence=True), make_failure(check="cause")]
    assert make(tmp_path, sample.failed_report(failures=failures)).headings[1] == (2, "product: cause (org/model)")


def test_the_line_that_a_failure_names_is_marked_and_linked_though_it_lies_in_what_is_left_out(page: Page) -> None:
    (target,) = (str(link["href"]) for link in page.all("a") if link["href"] and link["href"].endswith("-4000"))
    assert [mark["id"] for mark in page.all("mark")] == [target.removeprefix("#")]
    assert f'<mark id="{target.removeprefix("#")}">{sample.CAUSE}</mark>' in page.source
    assert "left out" in page.words


def test_every_link_of_the_page_leads_to_something(page: Page) -> None:
    inner = {str(link["href"])[1:] for link in page.all("a") if str(link["href"]).startswith("#")}
    assert inner <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_nothing_from_a_log_becomes_markup(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any(name.startswith("on") for _tag, attributes in page.elements for name in attributes)
    assert "<script>document.title = 'taken'</script>" in page.words
    assert "{{ 7 * 7 }} {% raw %} &lt;b&gt; &amp;" in page.words
    assert "deploy<b>&'\"#?.log" in page.words
    hostile = [
        line for name in ("\x1b", "\x00", "\x08", "\x7f", "\x9b", "\u202e", "\ufeff", "\u2028", "\r") for line in name
    ]
    assert [letter for letter in hostile if letter in page.source] == []
    assert "␀ ␈ ␡ ⟨U+009B⟩1m ⟨U+202E⟩gnp.exe ⟨U+FEFF⟩ ⟨U+2028⟩" in page.words
    assert "red  link" in page.words


def test_the_page_takes_nothing_from_anywhere_and_runs_one_script_only(page: Page) -> None:
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    for tag, attributes in page.elements:
        assert "style" not in attributes, tag  # the policy takes none
        for name in ("src", "href"):
            assert not re.match(r"\w+://|//", str(attributes.get(name, ""))), attributes


def test_headings_go_down_by_one_level_at_most(page: Page) -> None:
    levels = [level for level, _text in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_tables_have_headers_and_regions_have_names(page: Page) -> None:
    assert all(cell["scope"] in ("col", "row") for cell in page.all("th"))
    assert all(part.get("aria-label") for _tag, part in page.elements if part.get("role") == "region")
    assert {tag for tag, _attributes in page.elements} >= {"header", "nav", "main", "footer"}


def test_a_fault_is_told_step_by_step(page: Page) -> None:
    words = [word.strip() for word in page.text if word.strip()]
    at = words.index("stall decode on two")
    steps = "✓ inject 0.20 s, ✓ effect 0.20 s, ✗ gone 0.10 s"
    assert words[at - 1 : at + 5] == ["22.0", "stall decode on two", "org/model", steps, "✓ proven", "20"]
    assert '"problem": "stopped still"' in page.words


def test_what_changed_since_the_last_green_run(page: Page) -> None:
    part = page.words[page.words.index("Compared with the last green run") :]
    assert "0.5.22" in part
    assert re.search(r"total\s*20\.0\s*29\.4\s*! 1\.47", part)
    assert re.search(r"engine start\s*9\.0\s*9\.8\s*1\.09", part)


def test_a_run_without_a_green_one_before_it(tmp_path: Path) -> None:
    assert "has passed on this inventory before" in make(tmp_path, green=False).words


def test_a_run_of_which_there_is_next_to_nothing(tmp_path: Path) -> None:
    page = make(tmp_path, make_report(models=[], transport={"declared": "tcp"}), green=False)
    assert page.headings[0] == (1, "! test_it error: the test could not judge")
    assert "There are none." in page.words


def test_a_pass_says_so_first(tmp_path: Path) -> None:
    report = make_report()
    report.judge()
    assert make(tmp_path, report).headings[:2] == [(1, "✓ test_it passed"), (2, "Timeline")]


def test_each_of_several_runs_is_told(tmp_path: Path) -> None:
    report = make_report()
    report.judge()
    report.verdict = "flaky"
    report.repeats = [
        Repeat(run_id="run-a", verdict="fail", seconds=3.0, first_cause="product: answer_correct: wrong"),
        Repeat(run_id="run-b", verdict="pass", seconds=2.0, first_cause=None),
    ]
    report.known_flake = KnownFlake(owner="somebody", until="2026-12-31", reason="a race", issue=None)
    page = make(tmp_path, report)
    assert page.headings[0][1].startswith("~ test_it flaky")
    assert (2, "Repeated: 1 of 2 runs passed") in page.headings
    assert re.search(r"run-a\s*fail\s*3\.0\s*product: answer_correct: wrong", page.words)
    assert "A known flake until 2026-12-31, with somebody: a race" in page.words


def test_no_secret_is_on_the_page(tmp_path: Path) -> None:
    sample.write_logs(tmp_path)
    secret = "planted<&\"'0123456789"  # noqa: S105 (planted to be looked for)
    (tmp_path / "logs/ansible/deploy.log").write_text(f"a\ntoken {secret}\n")
    report = sample.failed_report(failures=[make_failure(evidence=f"with {secret}")])
    redaction.learn("planted", secret)
    try:
        source = make(tmp_path, report).source
    finally:
        redaction.forget()
    assert "0123456789" not in source
    assert source.count("&lt;redacted: planted&gt;") >= 2
