"""What GitHub is told of a run: annotations, a summary, and nothing that a log makes up."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from pyharness import cli, github, redaction, repeats
from tests.unit import report_sample as sample
from tests.unit.builders import make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

COMMAND = re.compile(r"::(?P<name>\w+) title=(?P<title>[^:,]*)::(?P<data>[^\r\n]*)")


@pytest.fixture
def on_github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def read(command: str) -> tuple[str, str, str]:
    """Read a command as GitHub's runner does (ActionCommand.cs of actions/runner)."""
    match = COMMAND.fullmatch(command)
    assert match, command

    def plain(text: str, *codes: tuple[str, str]) -> str:
        for code, letter in (*codes, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            text = text.replace(code, letter)
        return text

    return match["name"], plain(match["title"], ("%3A", ":"), ("%2C", ",")), plain(match["data"])


def test_the_first_cause_becomes_an_annotation_and_its_consequences_a_number() -> None:
    (command,) = github.commands(sample.failed_report())
    name, title, data = read(command)
    assert name == "error"
    assert title == "test_it: product: answer_correct (org/model)"
    assert data.startswith(f"HTTP 502 from the router\ntwo, {sample.DECODE_LOG}:4000: {sample.CAUSE}\n")
    assert "-> see why decode closed the connection" in data
    assert data.endswith("2 more in report.html")


@pytest.mark.parametrize("text", ["50 % of\r\n::error::x", "a, b: c %0A %25", "\x1b[31m::set-output name=a::b"])
def test_no_text_leaves_its_command(text: str) -> None:
    (command,) = github.commands(make_report(failures=[make_failure(evidence=text, check=text)]))
    assert "\n" not in command
    assert "\x1b" not in command
    _name, title, data = read(command)
    assert github.printable(text) in data
    assert github.printable(text) in title


def test_long_evidence_loses_its_middle() -> None:
    (command,) = github.commands(make_report(failures=[make_failure(evidence=f"head{'x' * 5000}tail")]))
    data = read(command)[2]
    assert data.startswith("headx")
    assert re.search(r"x\n… 3508 characters left out …\nx+tail\n-> look", data)


def test_a_run_that_passed_has_no_annotation_and_many_failures_have_ten() -> None:
    assert github.commands(make_report()) == []
    assert len(github.commands(make_report(failures=[make_failure() for _number in range(30)]))) == 10


def test_what_is_expected_is_no_annotation() -> None:
    expected = {"kind": "failure", "reason": "known", "check": "answer_correct", "evidence": "wrong"}
    report = make_report(models=[{"name": "org/model", "expected": expected}], failures=[make_failure()])
    assert github.commands(report) == []


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    github.annotate(sample.failed_report())
    github.summarize([sample.failed_report()])
    assert capsys.readouterr() == ("", "")
    assert github.harmless("::error::x\n") == "::error::x\n"


@pytest.mark.usefixtures("on_github")
def test_on_github_it_goes_to_the_stream() -> None:
    stream = io.StringIO()
    github.annotate(sample.failed_report(), stream)
    assert stream.getvalue().startswith("::error title=test_it%3A product")


@pytest.mark.usefixtures("on_github")
@pytest.mark.parametrize("text", ["last words:\n::add-path::/tmp/x\nend\n", "  ::error::x\n", "a ##[error] b\n"])
def test_a_command_in_a_log_is_not_obeyed(text: str) -> None:
    lines = github.harmless(text).splitlines()
    stop = re.fullmatch(r"::stop-commands::(\w{32})", lines[0])
    assert stop
    assert lines[-1] == f"::{stop[1]}::"
    assert lines[1:-1] == text.splitlines()
    assert github.harmless(text).splitlines()[0] != lines[0]  # nobody can guess it


@pytest.mark.usefixtures("on_github")
def test_text_without_a_command_stays_as_it_is() -> None:
    assert github.harmless("a::b\n") == "a::b\n"


def test_the_summary_is_a_table_and_the_first_causes(on_github: Path) -> None:
    on_github.write_text("of a step before\n")
    passed = make_report(test_case="test_ok")
    passed.judge()
    github.summarize([passed, sample.failed_report()])
    text = on_github.read_text()
    assert text.startswith("of a step before\n| Test case | Verdict |")
    assert "| test_ok | pass | 1 of 1 models passed | not known | 0.0 |  |" in text
    assert "| test_it (simulated engine) | fail | 0 of 1 models passed | tcp | 29.4 | product: answer_correct |" in text
    assert "```\nHTTP 502 from the router\n" in text
    assert "nothing was carried" not in text


def test_nothing_in_the_summary_is_markup(on_github: Path) -> None:
    evil = "| a ``` b <script> [x](http://e) \x1b[31m\n````\n# head"
    github.summarize([make_report(test_case="test_|<b>", failures=[make_failure(evidence=evil, check=evil)])])
    text = on_github.read_text()
    table, _newline, below = text.partition("\n\n")
    assert "<" not in table
    assert "`````\n| a ```" in below
    assert "\x1b" not in text


def test_the_summary_keeps_to_what_github_takes(on_github: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "SUMMARY_BYTES", 2000)
    long = make_report(
        failures=[make_failure(evidence="line ü\n" * 100, check=f"check_{number}") for number in range(9)]
    )
    for _time in range(3):
        github.summarize([long])
    text = on_github.read_text()
    assert on_github.stat().st_size <= 2000
    assert text.count("More does not fit") == 1
    assert text.count("```") % 2 == 0


def test_a_summary_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    github.summarize([make_report()])
    assert "the summary is left out" in capsys.readouterr().err


def test_no_secret_is_annotated(on_github: Path) -> None:
    redaction.learn("planted", "planted-0123456789")
    report = make_report(failures=[make_failure(evidence="with planted-0123456789")])
    try:
        github.summarize([report])
        told = "".join(github.commands(report)) + on_github.read_text()
    finally:
        redaction.forget()
    assert "0123456789" not in told
    assert "<redacted: planted>" in told


# -- the command line


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_case(_options: object) -> Report:
        return sample.failed_report(failures=[make_failure(evidence="last words:\n::add-path::/tmp")])

    monkeypatch.setattr(repeats, "run_case", run_case)


@pytest.mark.usefixtures("ran")
def test_the_command_line_annotates_after_the_verdict(on_github: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test_1p1d_erdma", "-q"]) == 1
    lines = capsys.readouterr().out.splitlines()
    stop = lines.index("::add-path::/tmp")
    assert lines[0].startswith("::stop-commands::")
    assert lines[-1].startswith("::error title=test_it")
    assert f"::{lines[0].rpartition(':')[2]}::" in lines[stop:-1]
    assert "| test_it " in on_github.read_text()


@pytest.mark.usefixtures("ran", "on_github")
def test_a_program_gets_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test_1p1d_erdma", "-q", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["test_case"] == "test_it"
    assert err.startswith("::error title=")
