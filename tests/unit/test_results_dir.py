"""The results folder: never an old Pass, never half a file, never somebody else's files."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import stat
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyharness.errors import UsageError
from pyharness.results_dir import ResultsDir, write_atomically
from tests.unit.builders import RUN, make_check, make_failure, make_report

if TYPE_CHECKING:
    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

HOSTILE = 'it\'s "quoted" $HOME `id` \\ ; end'


def status(base: Path) -> str:
    document = json.loads((base / "test_it" / "test_results.json").read_text())
    return str(document["status"])


def written(base: Path, report: Report) -> ET.Element:
    """Write a report and return its junit.xml."""
    ResultsDir(base, "test_it").write(report)
    # The file under test, written a moment ago.
    return ET.parse(base / "test_it" / "junit.xml").getroot()  # noqa: S314


def test_a_run_that_is_not_over_is_a_fail_in_place_of_the_last_pass(tmp_path: Path) -> None:
    passed = make_report()
    passed.judge()
    ResultsDir(tmp_path, "test_it").write(passed)
    assert status(tmp_path) == "Pass"
    folder = ResultsDir(tmp_path, "test_it")
    assert not (tmp_path / "test_it" / "test_results.json").exists()
    folder.write(make_report(run_id="next"))
    assert status(tmp_path) == "Fail"
    kept = tmp_path / "previous" / "test_it" / RUN
    assert json.loads((kept / "test_results.json").read_text())["status"] == "Pass"


def test_five_previous_runs_are_kept(tmp_path: Path) -> None:
    for number in range(8):
        ResultsDir(tmp_path, "test_it").write(make_report(run_id=f"run-{number}"))
    kept = sorted(path.name for path in (tmp_path / "previous" / "test_it").iterdir())
    assert kept == [f"run-{number}" for number in range(2, 7)]


def test_files_of_somebody_else_are_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "test_it").mkdir()
    theirs = tmp_path / "test_it" / "thesis.tex"
    theirs.write_text("years of work")
    with pytest.raises(UsageError, match="holds files that no run of this harness left there; name another folder"):
        ResultsDir(tmp_path, "test_it")
    assert theirs.read_text() == "years of work"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "test_it").mkdir()
    assert ResultsDir(tmp_path, "test_it").logs.is_dir()


@pytest.mark.parametrize("text", ["[]", "{", '{"run_id": ""}', "{}", '{"run_id": ".."}'])
def test_an_earlier_report_that_cannot_be_read_is_put_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "test_it").mkdir()
    (tmp_path / "test_it" / "report.json").write_text(text)
    ResultsDir(tmp_path, "test_it")
    assert (tmp_path / "previous" / "test_it" / "unknown" / "report.json").read_text() == text


def test_a_run_id_cannot_lead_out_of_the_previous_runs(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "test_it").mkdir()
    (tmp_path / "test_it" / "report.json").write_text('{"run_id": "../../precious"}')
    ResultsDir(tmp_path, "test_it")
    assert not list((tmp_path / "precious").iterdir())
    assert (tmp_path / "previous" / "test_it" / "unknown" / "report.json").exists()


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be written \(.*\); name a folder of your own"):
        ResultsDir(tmp_path / "file", "test_it")


def test_a_file_in_place_of_the_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "test_it").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        ResultsDir(tmp_path, "test_it")


@pytest.mark.parametrize(("verdict", "said"), [("pass", "Pass"), ("fail", "Fail"), ("error", "Fail")])
def test_test_results_has_exactly_three_keys(tmp_path: Path, verdict: str, said: str) -> None:
    report = make_report(verdict=verdict, finished_at="2026-01-01T00:01:00Z")
    ResultsDir(tmp_path, "test_it").write(report)
    document = json.loads((tmp_path / "test_it" / "test_results.json").read_text())
    assert document == {"test_case": "test_it", "status": said, "timestamp": "2026-01-01T00:01:00Z"}


def test_the_timestamp_of_an_unfinished_run_is_its_start(tmp_path: Path) -> None:
    ResultsDir(tmp_path, "test_it").write(make_report())
    document = json.loads((tmp_path / "test_it" / "test_results.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["timestamp"])


def test_nothing_but_whole_files_is_left(tmp_path: Path) -> None:
    ResultsDir(tmp_path, "test_it").write(make_report())
    names = {path.name for path in (tmp_path / "test_it").iterdir()}
    assert names == {"logs", "whls", "report.json", "test_results.json", "junit.xml"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, "old")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"


def test_junit_counts_each_check_once(tmp_path: Path) -> None:
    checks = [make_check("a"), make_check("b", "fail"), make_check("c", "fail"), make_check("d", "skipped")]
    report = make_report(
        models=[{"name": "org/model", "checks": [check.model_dump() for check in checks]}],
        checks=[make_check("nodes_clean", "fail")],
        failures=[
            make_failure(check="b"),
            make_failure(**{"class": "configuration", "check": "c"}),
            make_failure(**{"class": "infrastructure", "check": "nodes_clean", "trial": None}),
            make_failure(**{"class": "infrastructure", "check": "provision", "trial": None}),
        ],
    )
    suite = written(tmp_path, report)
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "errors": "3",
        "skipped": "1",
    }
    named = {case.get("name"): case for case in suite}
    assert set(named) == {"a", "b", "c", "d", "nodes_clean", "provision"}
    assert named["a"].get("classname") == "test_it.org/model"
    assert len(named["a"]) == 0
    assert named["nodes_clean"].get("classname") == "test_it.run"
    failure = named["b"].find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message"), failure.text) == ("product", "wrong text", "wrong text\nlook")


def test_junit_blames_the_model_that_failed(tmp_path: Path) -> None:
    models = [{"name": name, "checks": [make_check("a").model_dump()]} for name in ("org/model", "org/other")]
    suite = written(tmp_path, make_report(models=models, failures=[make_failure(check="a", trial="org/other")]))
    assert [case.get("classname") for case in suite if len(case)] == ["test_it.org/other"]


def test_junit_is_xml_whatever_a_log_holds(tmp_path: Path) -> None:
    evidence = "\x1b[31mred\x00\x07 <&\"'> \ufffe \ud800\nsecond\tline"
    suite = written(tmp_path, make_report(failures=[make_failure(evidence=evidence)]))
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "[31mred <&\"'>  ?"
    assert failure.text == "[31mred <&\"'>  ?\nsecond\tline\nlook"


def test_junit_of_a_failure_without_words(tmp_path: Path) -> None:
    suite = written(tmp_path, make_report(failures=[make_failure(evidence="\x00")]))
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "product"


def test_the_environment_can_be_read_by_a_shell(tmp_path: Path) -> None:
    folder = ResultsDir(tmp_path, "test_it")
    folder.write_environment({"B": HOSTILE, "A": "plain"})
    text = (folder.root / ".shrc").read_text()
    assert shlex.split(text) == ["export", "A=plain", "export", f"B={HOSTILE}"]


def test_deployments_are_kept(tmp_path: Path) -> None:
    folder = ResultsDir(tmp_path, "test_it")
    folder.write_deployments([{"run_id": "a"}])
    document = json.loads((folder.root / "deployment.json").read_text())
    assert document == {"schema_version": 1, "deployments": [{"run_id": "a"}]}


def test_the_wheel_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(b"content")
    folder = ResultsDir(tmp_path, "test_it")
    folder.keep_wheel(wheel)
    folder.keep_wheel(wheel)
    kept = folder.root / "whls" / wheel.name
    assert kept.samefile(wheel)
    kept.unlink()

    def other_file_system(*_arguments: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_file_system)
    folder.keep_wheel(wheel)
    assert kept.read_bytes() == b"content"


def archive(folder: ResultsDir, name: str, content: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    path = folder.logs / "node.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.type, entry.linkname, entry.mode = len(content), kind, link, 0o4777
        tar.addfile(entry, io.BytesIO(content))
    return path


def test_logs_are_unpacked_and_their_archive_goes(tmp_path: Path) -> None:
    folder = ResultsDir(tmp_path, "test_it")
    path = archive(folder, "org__model/server.log", b"last words")
    folder.unpack_logs()
    assert (folder.logs / "org__model" / "server.log").read_bytes() == b"last words"
    assert not (folder.logs / "org__model" / "server.log").stat().st_mode & stat.S_ISUID
    assert not path.exists()


@pytest.mark.parametrize("name", ["../../outside.log", "a/../../../outside.log"])
def test_an_archive_cannot_write_outside_the_logs(tmp_path: Path, name: str) -> None:
    folder = ResultsDir(tmp_path, "test_it")
    archive(folder, name, b"evil")
    with pytest.raises(ValueError, match="leads outside"):
        folder.unpack_logs()
    assert not list(tmp_path.rglob("outside.log"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archives_links_and_pipes_are_not_taken(tmp_path: Path, kind: bytes) -> None:
    folder = ResultsDir(tmp_path, "test_it")
    archive(folder, "link", b"", kind, "../../../secret")
    folder.unpack_logs()
    assert not list(folder.logs.iterdir())


def test_logs_of_a_model_have_their_folder(tmp_path: Path) -> None:
    folder = ResultsDir(tmp_path, "test_it")
    assert folder.trial_logs("org__model") == folder.trial_logs("org__model")
    assert (tmp_path / "test_it" / "logs" / "org__model").is_dir()
