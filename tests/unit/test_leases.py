"""The leases of a run: all of its nodes or none, waiting, keeping them alive, and what the dead have left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import lease, node_state
from pyharness.errors import UsageError
from pyharness.lease import LeaseHeld, Leases
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from pyharness.verification.node_probe import Nodes

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# Long enough for a busy machine to renew in time, and short enough to wait for.
TTL = 1.2


class Machines:
    """Nodes whose Python is this one. `ssh` ones have a directory of their own for their leases."""

    def __init__(self, folder: Path, **variables: Any) -> None:
        self.folder, self.variables = folder, variables
        self.asked: list[str] = []
        self.silent: set[str] = set()

    def variable(self, node: str, name: str) -> Any:
        known = {"ansible_connection": "local", "ansible_host": f"127.0.0.{len(node)}"}
        known |= {"disagg_lease_dir": str(self.folder / "leases")}
        if name == "disagg_lease_dir" and self.variables.get("ansible_connection") == "ssh":
            return str(self.folder / node)
        return {**known, **self.variables}.get(name)

    def run_python(self, node: str, script: str) -> dict[str, Any]:
        self.asked.append(node)
        if node in self.silent:
            raise NodeError(node, "no route to host")
        told: list[str] = []
        exec(script, {"print": told.append})  # noqa: S102 (as the node's own Python would)
        return dict(json.loads(told[0]))


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """Return two logical nodes of this machine."""
    return Machines(tmp_path)


def leases(machines: Machines, run: str = "mine", tell: Any = lambda _text: None, **extra: Any) -> Leases:
    return Leases(cast("Nodes", machines), run, "test_it", 30.0, tell, extra_vars=extra)


def never() -> bool:
    return False


def entry(machines: Machines, node: str) -> dict[str, Any]:
    found = lease.read(lease.path(machines.variable(node, "disagg_lease_dir"), f"127.0.0.{len(node)}"))
    assert found
    return found


def change(file: str, **fields: Any) -> None:
    """Change a lease behind its holder's back."""
    found = lease.read(file)
    assert found
    with Path(file).open("r+", encoding="utf-8") as stream:
        stream.write(json.dumps({**found, **fields}).ljust(4096))


def test_all_nodes_of_a_machine_are_taken_in_one_process_and_given_back(machines: Machines) -> None:
    mine = leases(machines)
    assert mine.take(["one", "three"], 0.0, never) == []
    assert machines.asked == ["one"]
    assert set(mine.numbers) == {"one", "three"}
    given = mine.variables()["disagg_leases"]
    assert given["three"] == {"file": str(machines.folder / "leases/127.0.0.5.json"), "number": mine.numbers["three"]}
    assert entry(machines, "one")["run"] == "mine"
    assert entry(machines, "one")["expected_end"]
    mine.release()
    assert (entry(machines, "one")["run"], mine.variables()) == (None, {"disagg_leases": {}})


def test_who_comes_too_late_gets_none_and_is_told_by_whom_and_what_to_do(machines: Machines) -> None:
    holder = leases(machines, "theirs")
    holder.take(["three"], 0.0, never)
    with pytest.raises(LeaseHeld) as caught:
        leases(machines).take(["one", "three"], 0.0, never)
    assert (caught.value.node, caught.value.entry["run"]) == ("three", "theirs")
    told = str(caught.value)
    assert told.startswith("three is held by run theirs (test_it) of ")
    assert ", expected to end " in told
    assert told.endswith("; wait for it with --wait SECONDS")
    assert entry(machines, "one")["run"] is None, "all or none"


def test_what_is_left_up_is_not_waited_for(machines: Machines) -> None:
    holder = leases(machines, "theirs")
    holder.take(["one"], 0.0, never)
    holder.hold()
    with pytest.raises(LeaseHeld, match=r"left up by --keep; end it with: python -m pyharness teardown .*--run theirs"):
        leases(machines).take(["one"], 60.0, never)


def test_who_waits_is_told_for_whom_once_and_gets_the_node_when_it_is_free(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyharness.lease._POLL_SECONDS", 0.01)
    holder, told = leases(machines, "theirs"), list[str]()
    holder.take(["one"], 0.0, never)
    asked: list[int] = []

    def third_time() -> bool:
        asked.append(1)
        if len(asked) == 3:
            holder.release()
        return False

    mine = leases(machines, tell=told.append)
    assert mine.take(["one"], 60.0, third_time) == []
    assert entry(machines, "one")["run"] == "mine"
    assert len(told) == 1
    assert told[0].startswith("one is held by run theirs (test_it) of ")
    assert told[0].endswith("; waiting")


def test_waiting_ends_with_its_time_or_with_the_run(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyharness.lease._POLL_SECONDS", 0.01)
    leases(machines, "theirs").take(["one"], 0.0, never)
    with pytest.raises(LeaseHeld, match=r"; waited \d+ s, give it longer: --wait SECONDS"):
        leases(machines).take(["one"], 0.05, never)
    answers = [False, False, True]
    mine = leases(machines)
    assert mine.take(["one"], 60.0, lambda: answers.pop(0)) == []
    assert mine.numbers == {}
    assert entry(machines, "one")["run"] == "theirs"


def test_several_machines_are_taken_in_one_order_whatever_the_order_of_the_nodes(tmp_path: Path) -> None:
    there = Machines(tmp_path, ansible_connection="ssh")
    leases(there).take(["three", "one"], 0.0, never)
    assert there.asked == ["one", "three"]
    assert lease.read(str(tmp_path / "one" / "host.json"))


def test_two_names_of_one_host_are_one_lease(tmp_path: Path) -> None:
    there = Machines(tmp_path, ansible_connection="ssh", ansible_host="192.0.2.1")
    there.variables["disagg_lease_dir"] = str(tmp_path / "leases")
    mine = leases(there, disagg_lease_dir=str(tmp_path / "leases"))
    mine.take(["one", "three"], 0.0, never)
    found = lease.read(str(tmp_path / "leases" / "host.json"))
    assert found
    assert found["nodes"] == ["one", "three"]
    assert mine.numbers["one"] == mine.numbers["three"]


def test_a_node_that_cannot_be_asked_leaves_nothing_taken(tmp_path: Path) -> None:
    there = Machines(tmp_path, ansible_connection="ssh")
    there.silent = {"three"}
    with pytest.raises(NodeError, match="no route"):
        leases(there).take(["one", "three"], 0.0, never)
    found = lease.read(str(tmp_path / "one" / "host.json"))
    assert found
    assert found["run"] is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ansible_host": "{{ somewhere }}"}, "one: ansible_host is a template"),
        ({"disagg_lease_ttl": "soon"}, "one: disagg_lease_ttl is 'soon', and has to be a number of seconds above 0"),
        ({"disagg_lease_ttl": 0}, "disagg_lease_ttl is 0"),
        ({"disagg_lease_dir": "/proc/none"}, "one: lease directory /proc/none cannot be made"),
    ],
)
def test_what_is_wrong_with_the_inventory_is_said(tmp_path: Path, variables: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        leases(Machines(tmp_path, **variables)).take(["one"], 0.0, never)
    assert str(caught.value).startswith(said) or said in str(caught.value)


def test_the_inventory_may_name_a_lease(tmp_path: Path) -> None:
    there = Machines(tmp_path, ansible_host="{{ somewhere }}", disagg_lease_name="rack 7")
    leases(there).take(["one"], 0.0, never)
    assert (tmp_path / "leases" / "rack_7.json").exists()


# ---------------------------------------------------------------- the dead


def test_a_holder_of_this_machine_that_is_gone_is_not_waited_for(machines: Machines) -> None:
    leases(machines, "theirs").take(["one"], 0.0, never)
    file = str(machines.folder / "leases/127.0.0.3.json")
    own = entry(machines, "one")["process"]
    change(file, process=own.rpartition("/")[0] + "/1")  # this id, and another start: it was used again
    mine = leases(machines)
    assert mine.take(["one"], 0.0, never) == ["theirs"]
    assert mine.variables_for("theirs") == {"disagg_run_names": {"one": []}}, "it knew the node by the same name"


@pytest.mark.parametrize("process", ["", "another boot/pid:[1]/1/1"])
def test_a_holder_elsewhere_is_left_alone_until_it_expires(machines: Machines, process: str) -> None:
    leases(machines, "theirs").take(["one"], 0.0, never)
    file = str(machines.folder / "leases/127.0.0.3.json")
    change(file, process=process)
    with pytest.raises(LeaseHeld):
        leases(machines).take(["one"], 0.0, never)
    change(file, uptime=lease.uptime() - 61.0)
    assert leases(machines).take(["one"], 0.0, never) == ["theirs"]


def test_what_bears_a_lease_and_is_not_of_its_holder_is_of_a_dead_run_and_all_else_is_not(machines: Machines) -> None:
    file = str(machines.folder / "leases/127.0.0.3.json")
    marks = [
        ("dead", "uno", file),
        ("mine", "one", file),
        ("manual", "one", file),
        ("elsewhere", "one", str(machines.folder / "leases/127.0.0.250.json")),
        ("older", "one", ""),
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", "import signal; signal.pause()"],
            env={
                **os.environ,
                node_state.RUN_VARIABLE: run,
                node_state.NODE_VARIABLE: node,
                node_state.LEASE_VARIABLE: of,
            },
        )
        for run, node, of in marks
    ]
    try:
        mine = leases(machines)
        deadline = time.monotonic() + 10.0
        while mine.take(["one"], 0.0, never) != ["dead"]:
            assert time.monotonic() < deadline, f"{mine.leftovers} is what was found within 10 s"
        assert mine.leftovers == {"dead": {"one": ["uno"]}}
    finally:
        for process in started:
            process.kill()
            process.wait()


# ---------------------------------------------------------------- staying alive


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within 20 s"
        time.sleep(0.01)  # the poll interval


def test_leases_are_renewed_as_long_as_the_run_lasts(machines: Machines) -> None:
    mine = leases(machines, disagg_lease_ttl=TTL)
    mine.take(["one"], 0.0, never)
    first = entry(machines, "one")["uptime"]
    with mine.kept_alive():
        wait_for(lambda: entry(machines, "one")["uptime"] > first + 2 * TTL, "renewing for longer than the lease lasts")
    assert mine.lost is None


def test_a_lease_that_has_passed_on_is_told_at_once_and_once(machines: Machines) -> None:
    mine, told = leases(machines, disagg_lease_ttl=TTL), list[str]()
    mine.on_lost = told.append
    mine.take(["one", "three"], 0.0, never)
    change(str(machines.folder / "leases/127.0.0.5.json"), run="theirs", number=10**12, test_case="test_other")
    with mine.kept_alive():
        wait_for(lambda: mine.lost, "noticing the loss")
    assert mine.lost
    assert mine.lost.startswith("lease lost: three is held by run theirs (test_other) of ")
    assert mine.silent is None
    assert told == [mine.lost]
    mine.release()
    assert entry(machines, "three")["run"] == "theirs"


def test_a_node_that_is_silent_for_too_long_is_a_loss_and_a_short_silence_is_none(tmp_path: Path) -> None:
    there = Machines(tmp_path, ansible_connection="ssh")
    mine = leases(there, disagg_lease_ttl=TTL)
    mine.take(["one", "three"], 0.0, never)
    with mine.kept_alive():
        there.silent = {"one"}
        asked = len(there.asked)
        wait_for(lambda: len(there.asked) > asked + 2, "asking again")
        there.silent = set()
        begun = lease.read(str(tmp_path / "one" / "host.json"))
        assert begun
        wait_for(
            lambda: (lease.read(str(tmp_path / "one" / "host.json")) or begun)["uptime"] > begun["uptime"] + TTL,
            "renewing again",
        )
        assert mine.lost is None
        there.silent = {"three"}
        wait_for(lambda: mine.lost, "noticing the silence")
    assert mine.lost == "lease lost: the lease of three was not renewed for 1.2 s: it does not answer"
    assert mine.silent == "three"


@pytest.mark.parametrize("own", [True, False], ids=["own", "another"])
def test_that_the_own_teardown_gives_them_back_is_no_loss_and_that_another_does_is(
    machines: Machines, *, own: bool
) -> None:
    mine = leases(machines, disagg_lease_ttl=TTL)
    mine.take(["one"], 0.0, never)
    mine.returning = own
    with mine.kept_alive():
        lease.release(str(machines.folder / "leases/127.0.0.3.json"), "mine", ["one"])
        asked = len(machines.asked)
        wait_for(lambda: len(machines.asked) > asked if own else mine.lost, "a renewal")
    assert mine.lost == (None if own else "lease lost: one is nobody's, and was this run's")


def test_what_could_not_be_cleaned_need_not_be_waited_for(machines: Machines) -> None:
    mine = leases(machines)
    mine.take(["one"], 0.0, never)
    mine.end()
    assert leases(machines, "next").take(["one"], 0.0, never) == ["mine"]


def test_leases_may_end_while_they_are_kept_alive(machines: Machines, recwarn: pytest.WarningsRecorder) -> None:
    mine = leases(machines, disagg_lease_ttl=TTL)
    mine.take(["one"], 0.0, never)
    asked = len(machines.asked)
    with mine.kept_alive():
        wait_for(lambda: len(machines.asked) > asked, "a renewal")
        machines.silent = {"one"}
        asked = len(machines.asked)
        wait_for(lambda: len(machines.asked) > asked, "one without an answer")
        mine.end()
        deadline = time.monotonic() + 2 * TTL
        wait_for(lambda: time.monotonic() > deadline, "what would be a loss otherwise")
    assert mine.lost is None
    assert [str(warning.message) for warning in recwarn if "thread" in str(warning.message)] == []
