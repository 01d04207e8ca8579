"""A lease on a node: who gets it, who keeps it, when it passes on, and what may be started under it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import lease
from pyharness import paths

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

CLAIM: dict[str, Any] = {
    "name": "127.0.0.42",
    "nodes": ["one"],
    "run": "mine",
    "test_case": "test_it",
    "holder": "me@here, pid 1,",
    "process": "boot/pid/1/1",
    "ttl_seconds": 60.0,
    "expected_seconds": None,
    "dead": [],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of a lease that nobody has had."""
    return Path(lease.path(str(tmp_path / "leases"), "127.0.0.42"))


class Clock:
    """The clocks of a node, as a test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.up, self.boot = 1_000_000.0, 500.0, "first"
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(lease, "uptime", lambda: self.up)
        monkeypatch.setattr(lease, "boot", lambda: self.boot)

    def go(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return clocks that stand still."""
    return Clock(monkeypatch)


def take(file: Path, **changes: Any) -> dict[str, Any]:
    return lease.take(str(file), {**CLAIM, **changes})


def number(file: Path) -> int:
    entry = lease.read(str(file))
    assert entry
    return int(entry["number"])


# ---------------------------------------------------------------- taking


def test_a_free_lease_is_taken_and_a_held_one_refused_with_its_holder(file: Path) -> None:
    assert lease.read(str(file)) is None
    got = take(file, expected_seconds=30.0)
    assert got["taken"]
    assert got["entry"]["expected_end"] == pytest.approx(got["entry"]["since"] + 30.0)
    refused = take(file, run="theirs")
    assert refused == {"taken": False, "entry": got["entry"]}
    assert lease.told(got["entry"]).startswith("run mine (test_it) of me@here, pid 1, since 20")


def test_the_number_grows_with_each_holder_and_survives_a_release(file: Path, clock: Clock) -> None:
    numbers = []
    for run in ("a", "b", "c"):
        numbers.append(take(file, run=run)["entry"]["number"])
        assert lease.release(str(file), run, ["one"])
        clock.wall -= 100.0
    assert numbers == [1_000_000, 1_000_001, 1_000_002], "also where the clock is set back"
    assert lease.read(str(file))["number"] == 1_000_002  # type: ignore[index]


def test_the_number_grows_though_the_file_was_removed(file: Path, clock: Clock) -> None:
    first = take(file)["entry"]["number"]
    file.unlink()
    clock.go(5.0)
    assert take(file, run="other")["entry"]["number"] > first


def test_an_own_lease_is_kept_by_the_same_process_and_renumbered_for_another(file: Path) -> None:
    first = take(file)["entry"]
    same = take(file, nodes=["two"])["entry"]
    assert (same["number"], same["nodes"]) == (first["number"], ["one", "two"])
    resumed = take(file, process="boot/pid/2/2")["entry"]
    assert resumed["number"] > first["number"]
    assert lease.renew(str(file), "mine", first["number"])["renewed"] is False, "the first process is fenced off"


def test_of_many_that_take_at_once_exactly_one_wins(file: Path) -> None:
    program = (
        "import json, sys, time\n"
        f"sys.path.insert(0, {str(paths.PROJECT)!r})\n"
        "from ansible_collections.disagg.e2e.plugins.module_utils import lease\n"
        "claim = json.loads(sys.argv[1])\n"
        "sys.stdin.read()\n"
        "runs = [sys.argv[2] + name for name in 'abcde']\n"
        f"print(json.dumps([lease.take({str(file)!r}, {{**claim, 'run': run}})['taken'] for run in runs]))\n"
    )
    command = [sys.executable, "-c", program, json.dumps(CLAIM)]
    racers = [
        subprocess.Popen([*command, str(racer)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for racer in range(8)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.close()  # all of them wait for this
    taken = [json.loads(racer.stdout.read()) for racer in racers if racer.stdout]
    assert sum(map(sum, taken)) == 1
    assert all(racer.wait() == 0 for racer in racers)


# ---------------------------------------------------------------- expiring


def test_a_lease_that_is_renewed_does_not_expire_and_one_that_is_not_does(file: Path, clock: Clock) -> None:
    mine = take(file)["entry"]["number"]
    for _ in range(3):
        clock.go(50.0)
        assert lease.renew(str(file), "mine", mine)["renewed"]
        assert take(file, run="theirs")["taken"] is False
    clock.go(60.5)
    got = take(file, run="theirs", nodes=["uno"])
    assert got["taken"]
    assert got["entry"]["leftovers"] == [{"run": "mine", "nodes": ["one"]}]
    refused = lease.renew(str(file), "mine", mine)
    assert (refused["renewed"], refused["entry"]["run"]) == (False, "theirs")


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0], ids=["back", "on"])
def test_a_clock_that_is_set_changes_nothing(file: Path, clock: Clock, seconds: float) -> None:
    take(file)
    clock.wall += seconds
    assert take(file, run="theirs")["taken"] is False
    clock.up += 61.0
    assert take(file, run="theirs")["taken"]


@pytest.mark.parametrize("kept", [False, True])
def test_after_a_boot_nobody_has_it(file: Path, clock: Clock, *, kept: bool) -> None:
    mine = take(file)["entry"]["number"]
    lease.renew(str(file), "mine", mine, kept=kept)
    clock.boot, clock.up = "second", 501.0
    assert lease.state(lease.read(str(file))) == "expired"
    assert take(file, run="theirs")["taken"]


def test_a_kept_lease_does_not_expire_and_goes_with_its_release(file: Path, clock: Clock) -> None:
    mine = take(file)["entry"]["number"]
    lease.renew(str(file), "mine", mine, kept=True)
    clock.go(1e6)
    refused = take(file, run="theirs", dead=["boot/pid/1/1"])
    assert refused["taken"] is False, "its harness has ended, and that is as it should be"
    assert lease.told(refused["entry"]).endswith(", left up by --keep")
    assert lease.release(str(file), "mine", ["one"])
    assert take(file, run="theirs")["taken"]


def test_a_holder_that_is_known_to_be_dead_is_not_waited_for(file: Path) -> None:
    take(file)
    assert take(file, run="theirs", dead=["boot/pid/2/2"])["taken"] is False
    got = take(file, run="theirs", dead=["boot/pid/1/1"])
    assert got["taken"]
    assert [left["run"] for left in got["entry"]["leftovers"]] == ["mine"]


def test_one_that_ends_without_having_cleaned_up_expires_at_once(file: Path) -> None:
    mine = take(file)["entry"]["number"]
    lease.renew(str(file), "mine", mine, over=True)
    assert lease.state(lease.read(str(file))) == "expired"
    assert [left["run"] for left in take(file, run="theirs")["entry"]["leftovers"]] == ["mine"]


# ---------------------------------------------------------------- giving back


def test_what_the_dead_left_is_noted_until_somebody_has_cleaned_up(file: Path, clock: Clock) -> None:
    for run in ("a", "b"):
        take(file, run=run)
        clock.go(61.0)
    left = take(file, run="c")["entry"]["leftovers"]
    assert [entry["run"] for entry in left] == ["a", "b"], "b died before it came to clean up after a"
    assert lease.release(str(file), "a", ["one"])
    assert not lease.release(str(file), "a", ["one"])
    assert lease.release(str(file), "b", ["another name"]) is False
    entry = lease.read(str(file))
    assert entry
    assert (entry["run"], [left["run"] for left in entry["leftovers"]]) == ("c", ["b"])


def test_only_its_holder_gives_a_lease_back_and_only_with_its_last_node(file: Path) -> None:
    take(file, nodes=["one", "two"])
    assert not lease.release(str(file), "theirs", ["one", "two"])
    assert lease.release(str(file), "mine", ["one"])
    assert lease.state(lease.read(str(file))) == "held"
    assert lease.release(str(file), "mine", ["two"])
    assert lease.state(lease.read(str(file))) == "free"
    assert not lease.release(lease.path(str(file.parent), "never-there"), "mine", ["one"])


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 99}', "\0\0\0"])
def test_a_damaged_lease_is_refused_and_says_what_to_do(file: Path, content: str) -> None:
    take(file)
    file.write_text(content, encoding="utf-8")
    with pytest.raises(lease.LeaseError, match=r"cannot be understood, .*; if no run is at work there: rm /"):
        take(file, run="theirs")


def test_a_damaged_lease_from_before_the_boot_is_nobodys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(file)
    file.write_text("\0" * 100, encoding="utf-8")
    os.utime(file, (1.0, 1.0))
    monkeypatch.setattr(lease, "uptime", lambda: 10.0)
    assert take(file, run="theirs")["taken"]


def test_an_empty_file_is_a_free_lease(file: Path) -> None:
    file.parent.mkdir()
    file.touch()
    assert lease.read(str(file)) is None
    assert take(file)["taken"]


def test_a_symlink_in_the_place_of_directory_or_file_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(lease.LeaseError, match="is no directory"):
        take(file)
    file.parent.unlink()
    take(file)
    file.rename(tmp_path / "real")
    file.symlink_to(tmp_path / "real")
    with pytest.raises(lease.LeaseError, match="cannot be opened"):
        take(file)


def test_every_user_may_make_leases_and_take_what_another_has_given_back(file: Path) -> None:
    before = os.umask(0o077)
    try:
        take(file)
    finally:
        os.umask(before)
    assert file.parent.stat().st_mode & 0o7777 == 0o1777
    assert file.stat().st_mode & 0o777 == 0o666


def test_a_lease_that_may_not_be_written_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> int:
        raise PermissionError(13, "Permission denied")

    take(file)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(lease.LeaseError, match=r"cannot be opened: Permission denied; see: ls -l /"):
        take(file, run="theirs")


def test_a_name_becomes_a_plain_file_name() -> None:
    assert lease.path("/leases", "fe80::1%eth0") == "/leases/fe80__1_eth0.json"
    assert lease.path("/leases", "../../etc/passwd") == "/leases/.._.._etc_passwd.json"


# ---------------------------------------------------------------- fencing


def guarded(file: Path, number: int) -> None:
    with lease.guarded({"file": str(file), "number": number}):
        pass


def test_the_holder_may_start_things(file: Path) -> None:
    guarded(file, take(file)["entry"]["number"])
    with lease.guarded(None):
        pass


def test_who_has_lost_a_lease_may_not_start_anything(file: Path, clock: Clock) -> None:
    mine = take(file)["entry"]["number"]
    clock.go(61.0)
    with pytest.raises(lease.LeaseLost, match=r"^lease lost: 127.0.0.42 was not renewed for 60 s"):
        guarded(file, mine)
    take(file, run="theirs")
    with pytest.raises(
        lease.LeaseLost, match=r"^lease lost: 127.0.0.42 .*it is held by run theirs \(test_it\) of me@here"
    ):
        guarded(file, mine)
    lease.release(str(file), "theirs", ["one"])
    with pytest.raises(lease.LeaseLost, match=r"^lease lost: .* held by nobody"):
        guarded(file, mine)
    again = take(file)["entry"]["number"]
    with pytest.raises(lease.LeaseLost, match="has passed on"):
        guarded(file, mine)
    lease.release(str(file), "mine", ["one"])
    with pytest.raises(lease.LeaseLost, match="given back"):
        guarded(file, again)


@pytest.mark.parametrize("content", [None, "{"])
def test_without_a_lease_that_can_be_read_nothing_is_started(file: Path, content: str | None) -> None:
    mine = take(file)["entry"]["number"]
    file.unlink()
    if content:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(lease.LeaseLost, match=r"^lease lost: "):
        guarded(file, mine)


def test_nobody_takes_a_lease_while_its_holder_starts_something(file: Path) -> None:
    mine = take(file)["entry"]["number"]
    program = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(paths.PROJECT)!r})\n"
        "from ansible_collections.disagg.e2e.plugins.module_utils import lease\n"
        "print('asking', flush=True)\n"
        f"print(lease.take({str(file)!r}, json.loads(sys.argv[1]))['taken'])\n"
    )
    claim = json.dumps({**CLAIM, "run": "theirs", "dead": [CLAIM["process"]]})
    with lease.guarded({"file": str(file), "number": mine}):
        taker = subprocess.Popen([sys.executable, "-c", program, claim], stdout=subprocess.PIPE)
        assert taker.stdout
        assert taker.stdout.readline() == b"asking\n"
        wait_until_blocked(taker.pid)
        assert number(file) == mine, "it could be taken, and is still this holder's"
    assert taker.stdout.read() == b"True\n"
    assert taker.wait() == 0
    assert number(file) > mine


def wait_until_blocked(pid: int) -> None:
    """Wait until a process waits for a file's lock."""
    deadline = time.monotonic() + 10.0
    # A line with an arrow is of one that waits (proc(5)).
    while not any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines()):
        assert time.monotonic() < deadline, f"process {pid} did not come to wait for the lock within 10 s"
        time.sleep(0.01)  # the poll interval
