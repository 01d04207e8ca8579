"""Evidence is taken on nodes through testinfra, here on this machine by two names."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import paths
from pyharness.errors import UsageError
from pyharness.verification.node_probe import NodeError, Nodes
from pyharness.verification.waiting import until
from tests.unit.builders import make_service

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

INVENTORY = """
all:
  children:
    prefill_nodes:
      hosts: {one: {colour: red}, both: {}}
    decode_nodes:
      hosts: {two: {}, both: {}}
    nobody: {}
  vars: {ansible_connection: local}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """Return an inventory's nodes, read by Ansible once."""
    path = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    path.write_text(INVENTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.environ["PATH"])
        patch.setenv("ANSIBLE_CONFIG", str(path))
        patch.setenv("ANSIBLE_COLLECTIONS_PATH", str(path))
        paths.use_project_ansible()
        result = Nodes(path)
        result.load()
    return result


def test_nodes_are_those_of_the_groups_each_once(nodes: Nodes) -> None:
    assert nodes.names(["prefill_nodes", "decode_nodes"]) == ["both", "one", "two"]


@pytest.mark.parametrize("group", ["nobody", "no_such_group"])
def test_a_group_without_hosts_is_named(nodes: Nodes, group: str) -> None:
    with pytest.raises(UsageError, match=rf"hosts\.yml: group {group} has no host; add one to it"):
        nodes.names(["prefill_nodes", group])


def test_a_nodes_variable_is_the_inventorys(nodes: Nodes) -> None:
    assert nodes.variable("one", "colour") == "red"
    assert nodes.variable("two", "colour") is None


def test_a_service_and_a_runs_processes_are_found(nodes: Nodes) -> None:
    service = make_service("prefill", pid=os.getpid())
    found = nodes.probe([service], nodes=["one", "two"], libraries=r"/libc\.so", run="no-such-run", traffic=True)
    assert list(found) == ["one", "two"]
    seen = found["one"]["services"]["prefill"]
    assert seen["process"]["pid"] == os.getpid()
    assert os.getpid() in seen["pids"]
    assert any("/libc.so" in entry["path"] for entry in seen["libraries"])
    assert seen["listeners"] == []
    assert found["one"]["run_processes"] == []
    assert isinstance(found["one"]["rdma"], list)
    assert found["two"]["services"] == {}


def test_what_is_not_asked_for_is_not_looked_for(nodes: Nodes) -> None:
    found = nodes.probe([make_service("prefill", pid=0)])
    assert 0 < found["one"].pop("up_since") < time.time()
    assert found == {
        "one": {
            "services": {
                "prefill": {"process": None, "pids": [], "listeners": [], "libraries": [], "connections": None}
            }
        }
    }


def test_a_service_whose_process_is_gone_has_ended(nodes: Nodes) -> None:
    alive, gone = make_service("prefill", pid=os.getpid()), make_service("decode", pid=2**22 + 1)
    assert nodes.ended([alive, gone]) == [gone]


def test_one_that_has_ended_and_that_nobody_took_note_of_has_ended(nodes: Nodes) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        zombie = make_service("decode", pid=process.pid)
        assert until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "Z", 10)[0]
        assert nodes.ended([zombie]) == [zombie]


def test_what_was_ended_on_purpose_is_no_news(nodes: Nodes) -> None:
    gone = make_service("decode", pid=2**22 + 1)
    nodes.replaced(gone, None)
    assert nodes.ended([gone]) == []
    assert nodes.current(gone) is None

    back = gone.model_copy(update={"pid": os.getpid(), "started_at": 2000.0})
    nodes.replaced(gone, back)
    assert nodes.current(gone) == back
    nodes.replaced(back, back)
    assert nodes.current(gone) == back
    assert nodes.current(make_service("prefill", pid=gone.pid)) is not None, (
        "another one's process may have the same id"
    )


def test_what_was_declared_and_not_started_is_not_there(nodes: Nodes) -> None:
    later = make_service("decode", pid=0, started_at=0.0, ready_at=None)
    assert nodes.current(later) is None
    assert nodes.ended([later]) == []


def test_the_tail_of_a_log(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "it's a log"
    log.write_text("one\ntwo\nthree\n" + "x" * 500 + "\n")
    service = make_service("prefill", log=str(log))
    assert nodes.log_tail(service, 2) == ["three", "x" * 400]
    missing = make_service("prefill", log=str(tmp_path / "none"))
    assert nodes.log_tail(missing) == [f"(nothing in {tmp_path / 'none'})"]


def test_an_inventory_that_ansible_cannot_read_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text("all: [what is this\n")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ANSIBLE_CONFIG", str(paths.PROJECT / "ansible.cfg"))
    with pytest.raises(UsageError, match=r"-i .*hosts\.yml: Completely failed to parse inventory source ") as caught:
        Nodes(path).load()
    assert len(str(caught.value).splitlines()) == 1


class Unreachable:
    """Stands in for a testinfra host."""

    def __init__(self, result: SimpleNamespace | Exception) -> None:
        self.result = result

    def run(self, _command: str, *_words: str) -> SimpleNamespace:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[SimpleNamespace | Exception], Nodes]:
    """Return a function that makes nodes which answer to every command alike."""

    def make(result: SimpleNamespace | Exception) -> Nodes:
        monkeypatch.setattr(Nodes, "host", lambda _self, _name: Unreachable(result))
        return Nodes(Path("inventory"))

    return make


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (RuntimeError("no route to host"), "one cannot be asked: no route to host"),
        (SimpleNamespace(rc=255, stdout="", stderr="banner\nssh: refused\n"), "one cannot be asked: ssh: refused"),
        (SimpleNamespace(rc=127, stdout="", stderr=""), "one cannot be asked: exit status 127"),
    ],
)
def test_a_node_that_cannot_be_asked_is_named(
    unreachable: Callable[[Any], Nodes], result: SimpleNamespace | Exception, said: str
) -> None:
    with pytest.raises(NodeError, match=said):
        unreachable(result).probe([], nodes=["one"])


@pytest.mark.parametrize("result", [RuntimeError("no route"), SimpleNamespace(rc=255, stdout="", stderr="")])
def test_a_node_that_cannot_be_asked_does_not_make_its_services_dead(
    unreachable: Callable[[Any], Nodes], result: SimpleNamespace | Exception
) -> None:
    assert unreachable(result).ended([make_service("prefill")]) == []


def test_a_log_that_cannot_be_read_says_so(unreachable: Callable[[Any], Nodes]) -> None:
    assert unreachable(RuntimeError("no route")).log_tail(make_service("prefill")) == ["(log cannot be read: no route)"]


def test_nodes_that_are_one_machine_are_asked_in_one_go(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = Nodes.run_python

    def counted(self: Nodes, node: str, script: str) -> dict[str, Any]:
        asked.append(node)
        return ask(self, node, script)

    monkeypatch.setattr(Nodes, "run_python", counted)
    services = [make_service(kind, pid=os.getpid()) for kind in ("prefill", "decode")]
    found = nodes.probe(services, nodes=["both"], traffic=True)
    assert asked == ["both"]
    assert list(found) == ["both", "one", "two"]
    assert [name for answer in found.values() for name in answer["services"]] == ["prefill", "decode"]
    assert nodes.machines(["one", "two", "elsewhere"]) == [["one", "two"], ["elsewhere"]]


def test_more_can_be_asked_than_a_shell_takes_in_one_word(nodes: Nodes) -> None:
    files = {
        node: {f"/no/such/folder/of/a/wheel/file_{number}.py": 1 for number in range(3000)} for node in ("one", "two")
    }
    found = nodes.probe([], files=files)
    assert [len(answer["files"]) for answer in found.values()] == [3000, 3000]
