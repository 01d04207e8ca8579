"""The verbs `report`, `history` and `compare`, as a person uses them."""

from __future__ import annotations

import json
import webbrowser
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli, history
from tests.unit.builders import make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def leave(
    results: Path, run: str, *, where: str = "test_it", keep: bool = True, passed: bool = True, **more: Any
) -> None:
    """Leave a results folder, and keep the run in the history."""
    wheel = {"file": "demo-1.0-py3-none-any.whl", "sha256": "0123456789" * 6 + "abcd", "source": "file"}
    values = {
        "run_id": run,
        "inventory": str(results),
        "failures": [] if passed else [make_failure()],
        "artifacts": {"wheel": wheel, "image": None},
        "timing": {"total": 10.0, "engine_start": 5.0, "inference": 1.0, "own": 4.0},
        **more,
    }
    report = make_report(**values)
    report.judge()
    folder = results / where
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report.to_json()))
    if keep:
        history.record(report, results)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


# -- report


def test_report_makes_the_page_of_the_newest_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path, "20260101-000000-aaaa")
    leave(tmp_path, "20260102-000000-bbbb", where="test_other", test_case="test_other")
    code, out, _err = run(capsys, "report", "--results", str(tmp_path))
    page = tmp_path / "test_other" / "report.html"
    assert (code, out) == (0, f"{page}\n")
    assert "test_other passed" in page.read_text()


@pytest.mark.parametrize(
    ("which", "page"),
    [
        ("test_it", "test_it"),
        ("20260103", "test_it"),
        ("20260101", "previous/test_it/20260101-000000-aaaa"),
        ("20260102-000000-bbbb", "test_other"),
    ],
)
def test_report_of_a_test_case_or_a_run(
    tmp_path: Path, which: str, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(tmp_path, "20260101-000000-aaaa", where="previous/test_it/20260101-000000-aaaa")
    leave(tmp_path, "20260103-000000-cccc")
    leave(tmp_path, "20260102-000000-bbbb", where="test_other", test_case="test_other")
    assert run(capsys, "report", which, "--results", str(tmp_path))[:2] == (0, f"{tmp_path / page}/report.html\n")


def test_report_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path, "20260101-000000-aaaa")
    assert run(capsys, "report", str(tmp_path / "test_it"))[1] == f"{tmp_path}/test_it/report.html\n"


def test_report_opens_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def open_once(url: str) -> bool:
        opened.append(url)
        return len(opened) == 1

    monkeypatch.setattr(webbrowser, "open", open_once)
    leave(tmp_path, "20260101-000000-aaaa")
    assert run(capsys, "report", "--open", "--results", str(tmp_path))[2] == ""
    assert opened == [f"file://{tmp_path}/test_it/report.html"]
    assert "no browser" in run(capsys, "report", "--open", "--results", str(tmp_path))[2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "there is no run in"),
        (("test_none",), "there is no run 'test_none' in"),
        (("2026",), "2026 is the beginning of several runs: 20260101-000000-aaaa, 20260102-000000-bbbb"),
    ],
)
def test_report_of_what_is_not_there(
    tmp_path: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments:
        leave(tmp_path, "20260101-000000-aaaa")
        leave(tmp_path, "20260102-000000-bbbb", where="test_other", test_case="test_other")
    code, _out, err = run(capsys, "report", *arguments, "--results", str(tmp_path))
    assert code == 2
    assert told in err


def test_report_of_a_file_that_this_version_does_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text('{"run_id": "x", "test_case": "y", "unheard_of": 1}')
    code, _out, err = run(capsys, "report", str(tmp_path))
    assert code == 2
    assert "is no report that this version of the harness reads" in err


# -- history


def test_history_shows_each_run_and_the_trend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        timing = {"total": 20.0 if number > 4 else 10.0}
        leave(tmp_path / "inv", f"2026010{number}-000000-aaaa", passed=number != 3, timing=timing)
    code, out, _err = run(capsys, "history")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == (
        "test_it on inv: 7 of 8 passed (88 %), median 10.0 s (+100 % against the older half !), 1 unsteady"
    )
    assert lines[1].startswith("  ▅▅▅▅▅███  seconds")
    assert lines[2].startswith("  ...F....  . pass")
    assert lines[3].split() == ["when", "run", "verdict", "seconds", "wheel", "first", "cause"]
    assert lines[4].split() == [
        "2026-01-01",
        "00:00:00",
        "20260107-000000-aaaa",
        "pass",
        "20.0",
        "1.0",
        "01234567",
    ]
    assert lines[8].endswith("fail ~      10.0  1.0 01234567  product: answer_correct: wrong text")


def test_history_of_one_case_on_one_inventory_and_no_more_than_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        leave(tmp_path / "one", f"2026010{number}-000000-aaaa")
        leave(tmp_path / "two", f"2026010{number}-000000-bbbb")
    arguments = ("history", "test_it", "-i", str(tmp_path / "two"), "--limit", "2", "--json")
    (entry,) = json.loads(run(capsys, *arguments)[1])
    assert [found["run_id"] for found in entry["runs"]] == ["20260103-000000-bbbb", "20260102-000000-bbbb"]
    assert (entry["passed"], entry["median_seconds"], entry["median_change"]) == (2, 10.0, None)
    assert len(json.loads(run(capsys, "history", "--json")[1])) == 2


def test_a_run_with_another_wheel_makes_no_run_unsteady(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path, "20260101-000000-aaaa")
    other = {"wheel": {"file": "demo-1.1-py3-none-any.whl", "sha256": "1" * 64}, "image": None}
    leave(tmp_path, "20260102-000000-aaaa", passed=False, artifacts=other)
    (entry,) = json.loads(run(capsys, "history", "--json")[1])
    assert [found["unsteady"] for found in entry["runs"]] == [False, False]


def test_history_without_any_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "history")[:2] == (0, "no run yet\n")
    assert run(capsys, "history", "--json")[1] == "[]\n"
    assert run(capsys, "history", "--limit", "0")[0] == 2


# -- compare


def test_compare_shows_what_is_not_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path, "20260101-000000-aaaa", versions={"torch": "2.0"})
    timing = {"total": 20.0, "engine_start": 5.1, "inference": 1.0, "own": 13.9}
    leave(tmp_path, "20260102-000000-bbbb", passed=False, versions={"torch": "2.1"}, timing=timing)
    code, out, _err = run(capsys, "compare", "20260101", str(tmp_path / "test_it"))
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:4] == ["A", "20260101-000000-aaaa", "test_it", "pass"]
    assert ["verdict", "run", "pass", "fail"] in lines
    assert ["version", "torch", "2.0", "2.1"] in lines
    assert ["seconds", "total", "10.0", "20.0", "2.00", "times", "!"] in lines
    assert ["seconds", "engine", "start", "5.0", "5.1", "1.02", "times"] in lines


def test_compare_for_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path, "20260101-000000-aaaa")
    leave(tmp_path, "20260102-000000-bbbb")
    document = json.loads(run(capsys, "compare", "20260101", "20260102", "--json")[1])
    assert document["a"]["run_id"] == "20260101-000000-aaaa"
    assert document["changes"] == []
    assert {entry["name"]: entry["ratio"] for entry in document["timings"]}["total"] == 1.0
    assert "nothing else has changed" in run(capsys, "compare", "20260101", "20260102")[1]


def test_compare_with_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, _out, err = run(capsys, "compare", "20260101", "20260102")
    assert code == 2
    assert "20260101: there is no such results folder" in err
