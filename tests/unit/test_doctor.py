"""The verb doctor: every problem of every node is a row with its remedy, and the exit code tells of any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from pyharness import doctor, paths
from pyharness.doctor import rows, survey
from pyharness.doctor.survey import Survey
from pyharness.errors import UsageError
from pyharness.playbook import Outcome, TaskFailure
from tests.unit.test_node_preflight import facts

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
DOCKER: dict[str, Any] = {
    "installed": True,
    "error": None,
    "version": "20.10.24",
    "runtimes": ["runc", "nvidia"],
    "cdi_devices": [],
    "has_image": True,
}
REGISTRY = {"url": "https://registry.invalid/v2/", "status": 401, "error": None}
NO_REGISTRY = {**REGISTRY, "status": None, "error": "timed out"}
RDMA = {"problem": "", "remedy": "", "usable": ["erdma_0"], "devices": [{"name": "erdma_0"}]}


def document(docker: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return what doctor.yml writes of a node that lacks nothing, with changes."""
    found = facts(docker=docker, endpoints=changes.pop("endpoints", []), **changes.pop("facts", {}))
    return {"facts": found, "models": {}, "rdma": None, "platform": "cpu", "image": "", **changes}


def refused(node: str = "two", **changes: Any) -> TaskFailure:
    said = (
        "Task failed: Failed to connect to the host via ssh: ssh: connect to host 192.0.2.1 port 22: Connection refused"
    )
    values = {"node": node, "task": "Reach the node", "role": "", "message": said, "unreachable": True}
    return TaskFailure(**{**values, **changes})


def problems(found: Survey) -> list[rows.Row]:
    return [row for row in rows.rows(found) if row.state != "ok"]


def told(**changes: Any) -> rows.Row:
    """Return the only problem of a node."""
    (row,) = problems(Survey({"one": document(**changes)}, []))
    return row


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the verb sets for Ansible out of the other tests."""
    monkeypatch.setattr(paths, "use_project_ansible", lambda: None)


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Callable[[Survey], None]:
    """Return a function that says what surveys find."""

    def finding(found: Survey) -> None:
        monkeypatch.setattr(survey, "look", lambda _inventory, _case, _extra: found)
        monkeypatch.setattr(survey, "release", lambda _inventory, _node, _extra: found)

    return finding


# ---------------------------------------------------------------- rows


def test_a_node_that_lacks_nothing_is_all_ok() -> None:
    given = document(
        DOCKER,
        endpoints=[REGISTRY],
        models={"Qwen/Qwen3-8B": {"cached": True}},
        rdma=RDMA,
        platform="cuda",
        image="a/b:1",
    )
    found = rows.rows(Survey({"one": given}, []))
    assert {row.state for row in found} == {"ok"}
    assert {"ssh", "docker", "nvidia toolkit", "image", "registry", "model", "rdma", "clock"} <= {
        row.what for row in found
    }


@pytest.mark.parametrize(
    ("changes", "what", "state", "said", "remedy"),
    [
        (
            {"docker": {**DOCKER, "installed": False, "error": "no socket"}},
            "docker",
            "missing",
            "there is no Docker engine",
            "a run installs it",
        ),
        (
            {"docker": {**DOCKER, "error": "/var/run/docker.sock: [Errno 111] Connection refused"}},
            "docker",
            "wrong",
            "/var/run/docker.sock: [Errno 111]",
            "systemctl start docker",
        ),
        (
            {"docker": {**DOCKER, "runtimes": ["runc"]}, "platform": "cuda"},
            "nvidia toolkit",
            "missing",
            "the Docker engine does not know the runtime nvidia",
            "a run installs",
        ),
        (
            {"docker": {**DOCKER, "has_image": False}, "image": "a/b:1"},
            "image",
            "missing",
            "a/b:1 is not on the node",
            "a run pulls it",
        ),
        (
            {"docker": DOCKER | {"has_image": None}, "endpoints": [NO_REGISTRY]},
            "registry",
            "missing",
            "https://registry.invalid/v2/ does not answer: timed out",
            "disagg_registry_mirrors",
        ),
        ({"endpoints": [NO_REGISTRY]}, "package index", "missing", "https://registry.invalid", "/etc/pip.conf"),
        (
            {"models": {"Qwen/Qwen3-8B": {"cached": False}}},
            "model",
            "missing",
            "Qwen/Qwen3-8B is not complete",
            "fetch it beforehand",
        ),
        (
            {"rdma": {**RDMA, "problem": "there is no RDMA device", "remedy": "run role erdma", "devices": []}},
            "rdma",
            "missing",
            "there is no RDMA device",
            "run role erdma",
        ),
        ({"rdma": {**RDMA, "problem": "erdma_0 is DOWN", "remedy": "x"}}, "rdma", "wrong", "erdma_0 is DOWN", "x"),
        ({"facts": {"clock": None}}, "clock", "unknown", "the node did not tell its time", "date"),
        ({"facts": {"is_local_address": False}}, "address", "wrong", "192.0.2.1 is no address", "ansible_host"),
    ],
)
def test_what_is_missing_is_a_row_with_its_remedy(
    changes: dict[str, Any], what: str, state: str, said: str, remedy: str
) -> None:
    row = told(**changes)
    assert (row.node, row.what, row.state) == ("one", what, state)
    assert row.said.startswith(said)
    assert remedy in row.remedy


def test_a_registry_is_not_missed_where_the_image_is_there() -> None:
    assert problems(Survey({"one": document(DOCKER, endpoints=[NO_REGISTRY])}, [])) == []


def test_gpus_through_cdi_are_as_good_as_the_runtime() -> None:
    docker = {**DOCKER, "runtimes": ["runc"], "cdi_devices": ["nvidia.com/gpu=all"]}
    assert problems(Survey({"one": document(docker, platform="cuda")}, [])) == []


@pytest.mark.parametrize(
    ("failure", "what", "state", "said"),
    [
        (refused(), "ssh", "wrong", "cannot be reached: the host is up, and nothing listens on port 22"),
        (
            refused(
                unreachable=False,
                task="Run Python there",
                message="The module interpreter '/usr/bin/python3' was not found.",
            ),
            "python",
            "missing",
            "there is no Python at /usr/bin/python3",
        ),
        (
            refused(unreachable=False, task="Validate | Read", message="Task failed: Missing sudo password"),
            "sudo",
            "missing",
            "sudo asks the user for a password",
        ),
        (
            refused(unreachable=False, task="Look at it", message="'disagg_state_dir' is undefined"),
            "inventory",
            "unknown",
            "'Look at it' failed: 'disagg_state_dir' is undefined",
        ),
    ],
)
def test_a_node_that_cannot_be_looked_at_says_why(failure: TaskFailure, what: str, state: str, said: str) -> None:
    (row,) = problems(Survey({"one": document()}, [failure]))
    assert (row.node, row.what, row.state, row.said) == ("two", what, state, said)
    assert row.remedy


def test_clocks_are_compared_between_the_nodes_that_were_reached() -> None:
    clock = {"offset_seconds": 9.0, "uncertainty_seconds": 0.01}
    given = {"one": document(), "two": document(facts={"name": "two", "clock": clock})}
    assert [(row.node, row.what) for row in problems(Survey(given, []))] == [("one", "clock"), ("two", "clock")]


# ---------------------------------------------------------------- the verb


def test_all_problems_of_all_nodes_are_told_and_the_exit_code_is_2(
    find: Callable[[Survey], None], capsys: pytest.CaptureFixture[str]
) -> None:
    find(Survey({"one": document(facts={"is_local_address": False, "clock": None})}, [refused()]))
    assert doctor.main([CASE, "-i", "inventories/local"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["node", "what", "state", "seen"]
    assert [line.split()[:3] for line in lines if " wrong " in line or " unknown " in line] == [
        ["one", "address", "wrong"],
        ["one", "clock", "unknown"],
        ["two", "ssh", "wrong"],
    ]
    assert sum("-> " in line for line in lines) == 3
    assert lines[-1].startswith("2 nodes, ")
    assert lines[-1].endswith(": 3 not as they have to be")


def test_nothing_missing_is_exit_code_0(find: Callable[[Survey], None], capsys: pytest.CaptureFixture[str]) -> None:
    find(Survey({"one": document()}, []))
    assert doctor.main(["-i", "inventories/local"]) == 0
    assert capsys.readouterr().out.endswith(": all there\n")


def test_a_program_gets_all_rows(find: Callable[[Survey], None], capsys: pytest.CaptureFixture[str]) -> None:
    find(Survey({}, [refused()]))
    assert doctor.main(["--json"]) == 2
    given = json.loads(capsys.readouterr().out)
    assert given["ok"] is False
    (row,) = given["rows"]
    assert set(row) == {"node", "what", "state", "said", "remedy"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-i", "nowhere"], "-i nowhere: there is no such inventory"),
        (["test_1p1d_edrma"], "did you mean test_1p1d_erdma?"),
        (["--wheel"], "unrecognized arguments: --wheel; see: python -m pyharness doctor --help"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=r"; |no such") as caught:
        doctor.main(arguments)
    assert said in str(caught.value)


def test_a_release_says_why_the_node_was_in_quarantine(
    find: Callable[[Survey], None], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"node": "one", "reason": "GPU 6 holds 300 MiB", "run": "r1", "since": "2026-01-01T00:00:00Z"}
    find(Survey({"one": {"quarantine": entry}}, []))
    assert doctor.main(["--release", "one"]) == 0
    assert capsys.readouterr().out == (
        "one is released; it was in quarantine since 2026-01-01T00:00:00Z, by run r1: GPU 6 holds 300 MiB\n"
    )
    find(Survey({"one": {"quarantine": None}}, []))
    assert doctor.main(["--release", "one"]) == 0
    assert capsys.readouterr().out == "one is not in quarantine\n"


def test_a_node_that_cannot_be_reached_is_not_released(
    find: Callable[[Survey], None], capsys: pytest.CaptureFixture[str]
) -> None:
    find(Survey({}, [refused()]))
    assert doctor.main(["--release", "two"]) == 2
    assert capsys.readouterr().err.startswith("error: two: cannot be reached: the host is up, and nothing listens on")


# ---------------------------------------------------------------- the survey


class Runner:
    """Stands in for the runner of playbooks: leaves documents as doctor.yml does."""

    def __init__(self, outcome: Outcome, documents: dict[str, Any]) -> None:
        self.outcome, self.documents = outcome, documents
        self.variables: dict[str, Any] = {}
        self.options: dict[str, Any] = {}

    def __call__(self, *_arguments: Any) -> Runner:
        return self

    def run(self, playbook: str, variables: dict[str, Any], **options: Any) -> Outcome:
        assert playbook == "doctor.yml"
        self.variables, self.options = variables, options
        for name, content in self.documents.items():
            Path(variables["doctor_dir"], f"{name}.json").write_text(json.dumps(content))
        return self.outcome


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runner]:
    """Return a function that says how playbooks end and what they leave."""

    def playing(
        documents: dict[str, Any], *failures: TaskFailure, status: str = "successful", output: str = ""
    ) -> Runner:
        runner = Runner(Outcome(status, list(failures), output, 1.0), documents)
        monkeypatch.setattr(survey, "PlaybookRunner", runner)
        return runner

    return playing


def test_a_survey_for_a_test_case_asks_for_what_it_needs(play: Callable[..., Runner]) -> None:
    runner = play({"one": {"a": 1}}, refused(), status="failed")
    found = survey.look(Path("inventories/local"), cases.load(CASE), {"disagg_transport": "tcp"})
    assert found.documents == {"one": {"a": 1}}
    assert [failure.node for failure in found.failures] == ["two"]
    assert runner.variables["disagg_hosts"] == "prefill_nodes:decode_nodes"
    assert runner.variables["disagg_transport"] == "tcp"
    case = runner.variables["doctor_case"]
    assert (case["ports"], case["transport"]) == ([8000, 8998, 29000, 30001], "rdma")
    assert case["gpus"] == {"tensor_parallel": 2, "first": 6}
    assert (runner.options["tags"], runner.options["patient"]) == ("look", True)


def test_a_release_is_of_one_node(play: Callable[..., Runner]) -> None:
    runner = play({"one": {"quarantine": None}})
    survey.release(Path("inventories/local"), "one", {"disagg_state_dir": "/s"})
    assert (runner.variables["disagg_hosts"], runner.options["tags"]) == ("one", "release")
    assert runner.variables["disagg_state_dir"] == "/s"


@pytest.mark.parametrize(
    ("status", "output", "said"),
    [
        ("failed", "[ERROR]: no such group\n", "-i inv: no such group"),
        ("successful", "PLAY RECAP\n", "-i inv: it has no node called one; see: ansible-inventory -i inv --graph"),
        ("timeout", "", "-i inv: looking at the nodes took over"),
    ],
)
def test_a_survey_that_could_not_begin_is_a_usage_error(
    play: Callable[..., Runner], status: str, output: str, said: str
) -> None:
    play({}, status=status, output=output)
    with pytest.raises(UsageError, match="-i inv") as caught:
        survey.release(Path("inv"), "one", {})
    assert said in str(caught.value)
