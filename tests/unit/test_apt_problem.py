"""What keeps apt from installing, told from the words of apt 2.6 and ansible-core 2.19."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.disagg.e2e.plugins.filter.apt_problem import FilterModule as AptProblem

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

DPKG_LOCK = {
    "msg": '\'/usr/bin/apt-get -y -o "Dpkg::Options::=--force-confdef" -o DPkg::Lock::Timeout=2       install '
    "'tree=2.1.0-1' -o APT::Install-Recommends=no' failed: E: Unable to acquire the dpkg frontend lock "
    "(/var/lib/dpkg/lock-frontend), is another process using it?\n",
    "stdout": "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 249 "
    "(python3)...\n",
}
LISTS_LOCK = {
    "msg": "Failed to lock apt for exclusive operation: Failed to lock directory /var/lib/apt/lists/: E:Could not get "
    "lock /var/lib/apt/lists/lock. It is held by process 372 (unattended-upgr)"
}


@pytest.mark.parametrize(("result", "holder"), [(DPKG_LOCK, "249 (python3)"), (LISTS_LOCK, "372 (unattended-upgr)")])
def test_a_lock_that_another_holds_is_told_with_its_holder(result: dict[str, Any], holder: str) -> None:
    pid, _name = holder.split()
    said = AptProblem().filters()["apt_problem"](result, ["tree"], 120)
    assert said.startswith(f"cannot install tree: process {holder} has held apt's lock for more than 120 s; wait until")
    assert f"ps -fp {pid})" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("No package matching 'nope' is available", "No package matching 'nope' is available; see whether the node's"),
        ("E: Write error (28: No space left on device)\nE: more", "No space left on device; free some"),
        ("Failed to update apt cache: unknown reason", "Failed to update apt cache: unknown reason; see whether"),
        ("E: dpkg was interrupted, you must manually run", "dpkg was interrupted, you must manually run; an earlier"),
        ("something\n  new", "something new"),
        (
            "E: Could not get lock /var/lib/dpkg/lock-frontend - open (11: Resource temporarily unavailable)",
            "a process that apt does not name has held apt's lock for more than 5 s; wait until",
        ),
    ],
)
def test_what_else_keeps_apt_from_installing(words: str, said: str) -> None:
    told = AptProblem().filters()["apt_problem"]({"msg": words}, ["a", "b"], 5)
    assert told.startswith(f"cannot install a, b: {said}")
    assert "\n" not in told
