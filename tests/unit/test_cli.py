"""The command line: usage errors are one line and exit code 2, and a verdict has its exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli, lifecycle, paths, teardown
from pyharness import playbook as playbooks
from tests.unit.builders import make_check, make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.options import Options
    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the command line sets for Ansible out of the other tests."""
    monkeypatch.setattr(paths, "use_project_ansible", lambda: None)


def usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command line that cannot be done, and return its one line."""
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.endswith("\n")
    assert len(told.err.splitlines()) == 1
    return told.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a TEST_CASE, or choose by --suite or -m; see: python -m pyharness --help"),
        (("test_1p1d_edrma",), "did you mean test_1p1d_erdma?"),
        ((CASE, "no_such"), "no test case is called no_such"),
        (("list", CASE), "unrecognized arguments: test_1p1d_erdma; see: python -m pyharness list --help"),
        (("--suite", "nightly"), "--suite nightly: there is no such suite; there are "),
        (("-m", "gpu_0 adn e2e"), "has to be made of markers with and, or, not and brackets"),
        (("-m", "gpu_3"), "gpu_3 is no marker of any test case; there are: "),
        (("a\nb",), "no test case is called a b"),
        ((CASE, "--wheels", "x"), "unrecognized arguments: --wheels"),
        ((CASE, "--model"), "argument --model: expected one argument"),
        ((CASE, "-e", "novalue"), "-e novalue: has to be KEY=VALUE, with the value in YAML"),
        ((CASE, "-e", "not-a-name=1"), "-e not-a-name=1: has to be KEY=VALUE"),
        ((CASE, "-e", "a=[1"), "-e a: the value is no YAML"),
        (("teardown", "-i", "nowhere"), "-i nowhere: there is no such inventory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in usage(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-i", "inventories/nowhere"), "there is no such inventory; there are inventories/"),
        (("--model", "org/other"), "--model org/other: test_1p1d_erdma declares Qwen/Qwen3-8B"),
        (("--wheel", "no_such.whl"), "--wheel no_such.whl: there is no such file"),
        (("--wheel", "latest"), "--wheel latest: this is neither a file ending in .whl nor a version"),
        (("--wheel", "dir/0.3"), "--wheel dir/0.3: this is neither"),
    ],
)
def test_what_a_run_cannot_do_is_an_error_result_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in usage(capsys, CASE, "--results", str(tmp_path), *arguments)
    report = json.loads((tmp_path / CASE / "report.json").read_text())
    assert report["verdict"] == "error"
    assert report["failures"][0]["class"] == "configuration"
    assert json.loads((tmp_path / CASE / "test_results.json").read_text())["status"] == "Fail"


def test_a_results_folder_of_others_is_a_usage_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / CASE).mkdir()
    (tmp_path / CASE / "thesis.tex").touch()
    assert "name another folder" in usage(capsys, CASE, "--results", str(tmp_path))


def test_help_names_verbs_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "teardown [--run ID]" in told
    assert "exit codes: 0 pass, 1 fail" in told


def test_list_names_every_case_with_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    told = capsys.readouterr().out
    assert f"{CASE}  One prefill and one decode server" in told
    assert "e2e, sglang; 2 nodes with 2 GPUs each, rdma; not run here yet" in told
    assert "models:   Qwen/Qwen3-8B deepseek-ai/DeepSeek-V2-Lite\n    markers:  nightly e2e gpu_2 sglang" in told


class Runs:
    """Stands in for `run_case`: gives reports, and keeps what it was asked."""

    def __init__(self, *reports: Report) -> None:
        self.reports = list(reports)
        self.asked: list[Options] = []

    def __call__(self, options: Options) -> Report:
        self.asked.append(options)
        options.tell("deploy")
        report = self.reports.pop(0)
        report.judge()
        return report


def run(monkeypatch: pytest.MonkeyPatch, runs: Runs, *arguments: str) -> int:
    monkeypatch.setattr(lifecycle, "run_case", runs)
    return cli.main(arguments)


def test_options_reach_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = Runs(make_report())
    arguments = (CASE, "-i", "inventories/simulator", "--wheel", "0.3.13", "--model", "a/b", "--model", "c/d", "--keep")
    more = ("--results", str(tmp_path), "-e", "n=1", "-e", "words=[x, y]", "-e", "text=a=b", "-e", "none=")
    assert run(monkeypatch, runs, *arguments, *more) == 0
    (asked,) = runs.asked
    assert (asked.test_case, str(asked.inventory), asked.wheel) == (CASE, "inventories/simulator", "0.3.13")
    assert (asked.models, asked.keep, asked.results) == (("a/b", "c/d"), True, tmp_path)
    assert asked.extra_vars == {"n": 1, "words": ["x", "y"], "text": "a=b", "none": None}


@pytest.mark.parametrize(
    ("failures", "code"),
    [([], 0), ([make_failure()], 1), ([make_failure(**{"class": "infrastructure"})], 2)],
)
def test_the_verdict_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, failures: list[Any], code: int) -> None:
    assert run(monkeypatch, Runs(make_report(failures=failures)), CASE, "-q") == code


def test_of_several_runs_the_worst_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = Runs(make_report(), make_report(failures=[make_failure()]), make_report())
    assert run(monkeypatch, runs, CASE, CASE, CASE, "--results", str(tmp_path)) == 1
    assert len(runs.asked) == 3


def test_a_person_gets_failures_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"name": "org/other", "checks": [make_check().model_dump()]}
    own = {"name": "org/model", "checks": [make_check().model_dump()]}
    report = make_report(
        models=[own, other],
        failures=[make_failure()],
        simulated=True,
        transport={"declared": "rdma", "requested": "tcp", "used": "tcp"},
    )
    run(monkeypatch, Runs(report), CASE, "--keep")
    told = capsys.readouterr()
    first, hint, verdict, kept = told.out.splitlines()
    assert first == "product: answer_correct (org/model): wrong text"
    assert hint == "  -> look"
    assert verdict.startswith("FAIL test_it: 1 of 2 models passed, KV cache over tcp, ")
    assert verdict.endswith("simulated engine: says nothing about a product; run/test_it/report.json")
    assert kept.startswith("left up; end it with: python -m pyharness teardown --run ")
    assert told.err.endswith(" s  deploy\n")


def test_a_program_gets_the_report_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, Runs(make_report()), CASE, "--json", "--quiet")
    told = capsys.readouterr()
    assert json.loads(told.out)["verdict"] == "pass"
    assert told.err == ""


class Teardown:
    """Stands in for the runner of playbooks."""

    def __init__(self, outcome: playbooks.Outcome) -> None:
        self.outcome = outcome
        self.variables: dict[str, Any] = {}

    def __call__(self, *_arguments: Any) -> Teardown:
        return self

    def run(self, playbook: str, variables: dict[str, Any], **_options: Any) -> playbooks.Outcome:
        assert playbook == "teardown.yml"
        self.variables = variables
        return self.outcome


def test_teardown_says_that_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "hosts.yml").touch()
    runner = Teardown(playbooks.Outcome("successful", [], "", 1.0))
    monkeypatch.setattr(teardown, "PlaybookRunner", runner)
    assert cli.main(["teardown", "--run", "r1", "-i", str(tmp_path), "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing of run r1 is left\n"
    assert runner.variables == {"disagg_run": "r1", "disagg_logs_to": str(tmp_path / "r1")}


def test_teardown_that_fails_says_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    left = playbooks.TaskFailure("two", "Prove", "", "two: pid 7 cannot be ended")
    (tmp_path / "hosts.yml").touch()
    runner = Teardown(playbooks.Outcome("failed", [left], "", 1.0))
    monkeypatch.setattr(teardown, "PlaybookRunner", runner)
    assert cli.main(["teardown", "-i", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: two: pid 7 cannot be ended; ")
    assert runner.variables["disagg_run"] == "manual"


def test_what_the_caller_has_to_correct_is_one_line_even_when_ansible_found_it_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake = make_failure(**{"class": "configuration", "evidence": "'nowhere' is\nundefined"})
    assert run(monkeypatch, Runs(make_report(failures=[mistake])), CASE, "-q") == 2
    assert capsys.readouterr().err.endswith("'nowhere' is undefined; look\n")
    deployed = {"name": "deploy", "status": "ok", "started_at": "2026-01-01T00:00:00Z", "seconds": 1.0}
    run(monkeypatch, Runs(make_report(failures=[mistake], phases=[deployed])), CASE, "-q")
    assert capsys.readouterr().err == ""
