"""A test case as T-One runs it, without the wrapper and with a harness that only notes what it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pyharness import cli, tone_case

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"


class Harness:
    """Notes what it is asked for, and leaves a result."""

    def __init__(self, status: str | None = "Pass", code: int = 0) -> None:
        self.status, self.code = status, code
        self.asked: list[str] = []

    def main(self, arguments: Sequence[str]) -> int:
        self.asked = list(arguments)
        folder = Path(arguments[arguments.index("--results") + 1]) / CASE
        assert not folder.exists(), "the harness refuses a folder that is not its own"
        if self.status:
            (folder / "logs" / "org__model").mkdir(parents=True)
            (folder / "logs" / "org__model" / "a.log").write_text("log")
            (folder / "test_results.json").write_text(json.dumps({"test_case": CASE, "status": self.status}))
        return self.code


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    fake = Harness()
    monkeypatch.setattr(cli, "main", fake.main)
    return fake


def run(tests: Path, *arguments: str, **environment: str) -> int:
    known = {"test_case_name": CASE, "TEST_TYPE": "double", "LOCAL_IP": "192.0.2.1", "REMOTE_IP": "192.0.2.2"}
    return tone_case.ToneCase({**known, "TONE_TESTS_DIR": str(tests), **environment}).run(arguments)


def status(tests: Path, part: str = "") -> str:
    return str(json.loads((tests / "run" / part / CASE / "test_results.json").read_text())["status"])


def test_the_harness_is_asked_for_the_artifact_on_the_two_hosts(tmp_path: Path, harness: Harness) -> None:
    assert run(tmp_path, "--keep", ARTIFACT_ID="7", GIT_REPO="o/r") == 0
    made = tmp_path / "run" / "inventories" / CASE
    wanted = [CASE, "--results", str(tmp_path / "run"), "--inventory", str(made), "--wheel", "artifact:7", "--keep"]
    assert harness.asked == wanted
    assert (status(tmp_path), status(tmp_path, "logs")) == ("Pass", "Pass")
    assert (tmp_path / "run" / "logs" / CASE / "org__model" / "a.log").read_text() == "log"


def test_the_exit_code_is_the_harnesss(tmp_path: Path, harness: Harness) -> None:
    harness.status, harness.code = "Fail", 1
    assert run(tmp_path) == 1
    assert status(tmp_path, "logs") == "Fail"
    assert "--wheel" not in harness.asked


def hosts(tests: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((tests / "run" / "inventories" / CASE / "hosts.yml").read_text())["all"]["children"])


def test_a_single_test_has_one_host_in_every_group(tmp_path: Path, harness: Harness) -> None:
    assert run(tmp_path, TEST_TYPE="single", REMOTE_IP="") == 0
    assert hosts(tmp_path) == {
        "prefill_nodes": {"hosts": {"local": {"ansible_host": "192.0.2.1", "ansible_connection": "local"}}},
        "decode_nodes": {"hosts": {"local": {}}},
    }
    assert harness.asked


def test_a_second_run_makes_the_inventory_anew(tmp_path: Path, harness: Harness) -> None:
    run(tmp_path)
    (tmp_path / "run" / CASE).rename(tmp_path / "elsewhere")
    run(tmp_path, REMOTE_IP="2001:db8::2")
    assert hosts(tmp_path)["decode_nodes"]["hosts"]["remote"] == {"ansible_host": "2001:db8::2"}
    assert harness.asked


def test_an_inventory_that_is_named_is_taken(tmp_path: Path, harness: Harness) -> None:
    assert run(tmp_path, DISAGG_INVENTORY=str(tmp_path / "mine"), LOCAL_IP="", REMOTE_IP="") == 0
    assert harness.asked[harness.asked.index("--inventory") + 1] == str(tmp_path / "mine")
    assert not (tmp_path / "run" / "inventories").exists()


def test_a_harness_that_leaves_no_result_is_a_fail(tmp_path: Path, harness: Harness) -> None:
    harness.status, harness.code = None, 2
    for _twice in range(2):
        assert run(tmp_path) == 2
        assert (status(tmp_path), status(tmp_path, "logs")) == ("Fail", "Fail")


def test_a_harness_that_breaks_is_a_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: Sequence[str]) -> int:
        raise RuntimeError("broken")

    monkeypatch.setattr(cli, "main", broken)
    with pytest.raises(RuntimeError):
        run(tmp_path)
    assert (status(tmp_path), status(tmp_path, "logs")) == ("Fail", "Fail")


def test_a_result_path_that_is_the_harnesss_own_is_left_to_it(tmp_path: Path, harness: Harness) -> None:
    assert run(tmp_path, TEST_CASE_RESULT_PATH=f"run/{CASE}") == 0
    assert status(tmp_path) == "Pass"
    assert harness.asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"REMOTE_IP": ""}, "REMOTE_IP is '' and has to be the address of a host; TEST_TYPE is double"),
        ({"LOCAL_IP": "host"}, "LOCAL_IP is 'host' and has to be"),
        ({"REMOTE_IP": "192.0.2.1"}, "LOCAL_IP and REMOTE_IP are both 192.0.2.1"),
        ({"TEST_TYPE": ""}, "TEST_TYPE is '' and has to be single or double"),
        ({"ARTIFACT_ID": "7"}, "ARTIFACT_ID is 7 and GIT_REPO is empty"),
        ({"DISAGG_SSH_KEY": "/nowhere"}, "DISAGG_SSH_KEY is /nowhere, and there is no such file"),
    ],
)
def test_bad_input_is_an_error_report(
    tmp_path: Path, harness: Harness, capsys: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    assert run(tmp_path, **changes) == 2
    assert said in capsys.readouterr().err
    report = json.loads((tmp_path / "run" / CASE / "report.json").read_text())
    assert (report["verdict"], report["failures"][0]["class"]) == ("error", "configuration")
    assert said in report["failures"][0]["evidence"]
    assert (status(tmp_path), status(tmp_path, "logs")) == ("Fail", "Fail")
    assert harness.asked == []


def test_main_takes_the_environment(
    tmp_path: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TONE_TESTS_DIR", str(tmp_path))
    monkeypatch.setenv("DISAGG_INVENTORY", str(tmp_path))
    monkeypatch.setenv("test_case_name", CASE)
    assert tone_case.main(["--keep"]) == 0
    assert harness.asked[-1] == "--keep"
    monkeypatch.setenv("test_case_name", "test_1p1d_edrma")
    assert tone_case.main([]) == 2
    assert "did you mean test_1p1d_erdma?" in capsys.readouterr().err
