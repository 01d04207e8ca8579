"""Asking a node: each question within its own time, and failing alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disagg.e2e.plugins.modules import node_diagnosis
from pyharness import collect
from pyharness.playbook import Outcome, TaskFailure

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


def test_a_command_says_what_it_is_and_how_it_ended() -> None:
    text = node_diagnosis.ask(["sh", "-c", "echo out; echo err >&2; exit 3"], 10, 1000)
    assert text.startswith("$ sh -c echo out")
    assert "\nout\nerr\n# exit status 3, " in text


def test_a_command_that_the_node_lacks_is_one_line() -> None:
    assert node_diagnosis.ask(["no-such-smi"], 10, 1000) == "no-such-smi: this node does not have the command\n"


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    text = node_diagnosis.ask(["sh", "-c", "echo begun; sleep 600 & wait"], 0.3, 1000)
    assert "did not end within 0.3 s\nbegun\n" in text


def test_long_output_loses_its_middle() -> None:
    text = node_diagnosis.ask(["sh", "-c", "echo first; seq 10000; echo last"], 10, 100)
    assert "first" in text
    assert "last" in text
    assert "bytes left out here" in text


def test_one_question_alone_fails_and_none_is_waited_for_longer_than_allowed() -> None:
    def one(command: list[str]) -> str:
        if command == ["broken"]:
            raise ValueError("no")
        if command == ["stuck"]:
            time.sleep(5)  # as one that hangs in the kernel
        return "fine\n"

    asked = {name: [name] for name in ("broken", "stuck", "good")}
    assert node_diagnosis._side_by_side(asked, one, 0.5) == {
        "broken": "$ broken\nValueError: no\n",
        "stuck": "$ stuck\nno answer within 0.5 s\n",
        "good": "fine\n",
    }


def test_it_is_asked_what_a_person_would_ask() -> None:
    asked = node_diagnosis._questions("", "", [])
    wanted = {
        *("os-release", "uname", "uptime", "date", "disks", "memory", "processes-by-memory", "sockets", "addresses"),
        *("routes", "ulimits", "dmesg", "journal", "nvidia-smi", "nvidia-smi-q", "ibv_devinfo", "rdma-link"),
        *("infiniband", "docker-ps", "docker-info", "shared-memory"),
    }
    assert wanted <= set(asked)


class Playbooks:
    """Stands for PlaybookRunner: leaves answers as playbooks/collect.yml does."""

    def __init__(self, answers: dict[str, dict[str, str]], outcome: Outcome | Exception) -> None:
        self._answers, self._outcome = answers, outcome

    def run(self, _playbook: str, variables: dict[str, Any], **options: Any) -> Outcome:
        assert options["patient"] is True
        assert options["timeout"] <= 60
        for node, texts in self._answers.items():
            Path(variables["collect_dir"], f"{node}.json").write_text(json.dumps(texts))
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def run(folder: Path, answers: dict[str, dict[str, str]], outcome: Outcome | Exception) -> list[str]:
    told: list[str] = []
    collect.collect(Playbooks(answers, outcome), {"disagg_run": "r1"}, folder, told.append)  # type: ignore[arg-type]
    return told


def test_each_answer_is_a_file_of_its_node(tmp_path: Path) -> None:
    told = run(
        tmp_path / "d", {"one": {"uname": "$ uname\nLinux\n", "../x": "y"}, "two": {}}, Outcome("successful", [], "", 1)
    )
    assert (tmp_path / "d/one/uname.txt").read_text() == "$ uname\nLinux\n"
    assert (tmp_path / "d/one/_x.txt").exists()
    assert [line.partition(" in ")[0] for line in told] == ["  2 answers of 2 nodes"]


def test_a_node_that_cannot_be_reached_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    gone = TaskFailure(node="two", task="t", role="", message="No route\nto host", unreachable=True)
    told = run(tmp_path / "d", {"one": {"uname": "Linux\n"}}, Outcome("failed", [gone], "", 1))
    assert told[0] == "  no diagnosis of two: cannot be reached: No route to host"
    assert (tmp_path / "d/one/uname.txt").exists()


@pytest.mark.parametrize("outcome", [OSError("no room"), RuntimeError("broken")])
def test_whatever_happens_teardown_goes_on(tmp_path: Path, outcome: Exception) -> None:
    assert len(run(tmp_path / "d", {}, outcome)) == 1


def test_a_diagnosis_that_took_too_long_is_told_and_what_came_is_kept(tmp_path: Path) -> None:
    told = run(tmp_path / "d", {"one": {"uname": "Linux\n"}}, Outcome("timeout", [], "", 60))
    assert "took more than 60 s" in told[0]
    assert (tmp_path / "d/one/uname.txt").exists()


def test_the_environment_of_a_container_loses_its_secrets(tmp_path: Path) -> None:
    inspect = json.dumps([{"Config": {"Env": ["A_TOKEN=two words", "PORT=8000"]}}], indent=4)
    run(
        tmp_path / "d",
        {"one": {"docker-inspect": f"$ docker inspect\n{inspect}\n# 0.1 s\n"}},
        Outcome("successful", [], "", 1),
    )
    text = (tmp_path / "d/one/docker-inspect.txt").read_text()
    assert '"A_TOKEN=<redacted: A_TOKEN>"' in text
    assert "PORT=8000" in text
    assert text.endswith("\n# 0.1 s\n")
