"""Leased ports: module port_lease and the process that holds them, run as Ansible runs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state, own_ports, port_holder
from ansible_collections.disagg.e2e.plugins.modules import port_lease, run_clean
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

SOURCE = Path(port_holder.__file__).read_text(encoding="utf-8")


class Leasing:
    """A run's folder on a node `one` of this machine, in which ports are leased."""

    def __init__(self, state: Path) -> None:
        self.state, self.run_id = state, f"unit-{uuid.uuid4().hex[:8]}"
        self.run_dir = state / self.run_id / "one"

    def lease(self, *names: str, check: bool = False, **asked: Any) -> dict[str, Any]:
        given = {"run": self.run_id, "run_dir": str(self.run_dir), "node": "one", "names": list(names)}
        return run(port_lease, check=check, **given, **asked)

    def holders(self) -> list[int]:
        return [found["pid"] for found in node_state.run_processes(self.run_id) if found["service"] == "ports"]


@pytest.fixture
def leasing() -> Iterator[Leasing]:
    """Return a run's folder, short enough for a socket's path; ends what a test leaves of the run."""
    state = Path("/tmp") / f"disagg-{uuid.uuid4().hex[:8]}"  # noqa: S108 (a name nobody can guess, made by mkdir)
    state.mkdir(mode=0o700)
    subject = Leasing(state)
    yield subject
    for pid in subject.holders():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert node_state.wait_gone(subject.run_id, 5.0) == []
    shutil.rmtree(state)


def bound(port: int, *, shares: bool = False, listens: bool = False) -> socket.socket:
    """Bind to a port on one address as a server does.

    Raises:
        OSError: it cannot be had.
    """
    server = socket.socket()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(shares))
        server.bind(("127.0.0.42", port))
        if listens:
            server.listen()
    except OSError:
        server.close()
        raise
    return server


def until_gone(pid: int, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while node_state.is_alive(pid):
        assert time.monotonic() < deadline, f"{pid} is alive after {seconds:g} s"
        time.sleep(0.01)  # the poll interval


def test_a_leased_port_is_nobodys_until_it_is_opened_and_then_a_servers(leasing: Leasing) -> None:
    result = leasing.lease("frontend.http", "worker-1.system")
    ports = result["ports"]
    assert result["changed"] is True
    assert sorted(ports) == ["frontend.http", "worker-1.system"]
    assert len(set(ports.values())) == 2
    for shares in (False, True):
        with pytest.raises(OSError, match="in use"):
            bound(ports["frontend.http"], shares=shares)
    leasing.lease(open=["frontend.http"])
    with bound(ports["frontend.http"], shares=True, listens=True):
        pass
    # Held on: while the service is away nobody gets it who does not share.
    with pytest.raises(OSError, match="in use"):
        bound(ports["frontend.http"])
    with pytest.raises(OSError, match="in use"):
        bound(ports["worker-1.system"], shares=True)


def test_asked_again_it_says_the_same(leasing: Leasing) -> None:
    first = leasing.lease("a", "b")
    holders = leasing.holders()
    again = leasing.lease("a", "b")
    assert (again["ports"], again["changed"], leasing.holders()) == (first["ports"], False, holders)
    more = leasing.lease("a", "b", "c")
    assert more["changed"] is True
    assert {name: more["ports"][name] for name in ("a", "b")} == first["ports"]


def test_a_port_that_was_lost_is_told_and_another_takes_its_place(leasing: Leasing) -> None:
    before = leasing.lease("a", "b", open=["a"])["ports"]
    with bound(before["a"], shares=True, listens=True):
        after = leasing.lease("a", "b", renew=["a"])
    assert after["lost"] == {"a": [before["a"]]}
    assert after["ports"]["a"] != before["a"]
    assert after["ports"]["b"] == before["b"]
    # The new one is held as the first was.
    with pytest.raises(OSError, match="in use"):
        bound(after["ports"]["a"], shares=True)


def test_many_at_once_get_ports_of_their_own() -> None:
    """As many runs side by side as a machine may see, each with ports for dozens of services."""
    runs, names = 12, [f"worker-{number}.system" for number in range(40)]
    holders = [port_holder.Holder() for _ in range(runs)]
    with ThreadPoolExecutor(runs) as pool:
        told = list(pool.map(lambda holder: holder.answer({"hold": names}), holders))
    ports = [port for answer in told for port in answer["ports"].values()]
    assert len(set(ports)) == len(ports) == runs * len(names)
    assert all(port_holder.FIRST <= port <= port_holder.LAST for port in ports)


def test_no_port_left_is_told(leasing: Leasing) -> None:
    first = leasing.lease("a")["ports"]["a"]
    holder = port_holder.Holder(first, first)
    with pytest.raises(OSError, match=f"none of the ports {first} to {first} is free"):
        holder.answer({"hold": ["b"]})


def test_teardown_ends_the_holder_and_gives_the_ports_back(leasing: Leasing) -> None:
    ports = leasing.lease("a")["ports"]
    assert len(leasing.holders()) == 1
    done = run(run_clean, run=leasing.run_id, state_dir=str(leasing.state), node="one", stop_timeout=5)
    assert (done["left"], done["killed"], leasing.holders()) == ([], [], [])
    with bound(ports["a"]):
        pass


def test_a_holder_ends_by_itself_when_its_run_is_gone(leasing: Leasing) -> None:
    leasing.lease("a")
    (pid,) = leasing.holders()
    shutil.rmtree(leasing.run_dir)
    until_gone(pid)


def test_nothing_is_leased_in_check_mode(leasing: Leasing) -> None:
    assert leasing.lease("a", check=True)["changed"] is True
    assert leasing.holders() == []
    leasing.lease("a")
    assert leasing.lease("a", check=True)["changed"] is False


def test_a_holder_that_cannot_start_says_why(leasing: Leasing) -> None:
    with pytest.raises(port_holder.HolderError, match=r"did not start; its last word .*: RuntimeError: no"):
        port_holder.start(str(leasing.run_dir), {}, "raise RuntimeError('no')")


def test_what_is_leased_is_asked_of_its_holder_only(leasing: Leasing) -> None:
    with pytest.raises(port_holder.HolderError, match="does not answer at"):
        port_holder.ask(str(leasing.run_dir))


def test_whose_a_leased_port_is(leasing: Leasing) -> None:
    leased = leasing.lease("a", "b", open=["a", "b"])["ports"]
    own = os.getpid()
    assert own_ports.seen(leased, own, []) == own_ports.Seen(["a", "b"], [])
    with bound(leased["a"], shares=True, listens=True):
        assert own_ports.seen(leased, own, []) == own_ports.Seen(["b"], [])
        # The same port, looked at for another program: its lines say nothing, the kernel does.
        assert own_ports.seen(leased, leasing.holders()[0], []) == own_ports.Seen(["a", "b"], ["a"])


def test_a_service_that_says_its_port_is_in_use_has_lost_it() -> None:
    leased = {"a": 20001, "b": 20002}
    said = [f"Failed to bind to address 127.0.0.1:{leased['b']}: Address already in use (os error 98)", "served"]
    assert own_ports.seen(leased, os.getpid(), said).taken == ["b"]
    # A line of an earlier start names an earlier port.
    assert own_ports.seen({"a": 20003}, os.getpid(), said).taken == []
    # It ended over that, and does not say which.
    assert own_ports.seen({"a": 20003}, 0, ["Address already in use (os error 98)"]).taken == ["a"]
    assert own_ports.seen({"a": 20003}, 0, ["Address already in use", "1", "2", "3"]).taken == []
