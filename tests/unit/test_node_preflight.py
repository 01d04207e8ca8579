"""What a node is held against, requirement by requirement: each is met, and each is refused with its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.disagg.e2e.plugins.filter.node_problems import FilterModule as NodeProblems
from ansible_collections.disagg.e2e.plugins.module_utils import preflight

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

GIB = 1024**3
START = 1767225600  # 2026-01-01 00:00:00 UTC


def process(run: str | None = None, pid: int = 4711) -> dict[str, Any]:
    return {"pid": pid, "run": run, "service": "decode" if run else None, "started_at": START, "command": "python -m x"}


def gpu(index: int, *holders: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": index, "uuid": f"GPU-{index}", "name": "NVIDIA A10", "processes": list(holders)}


def facts(wanted: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a node that lacks nothing, with changes."""
    return {
        "name": "one",
        "hostname": "host-1",
        "user_id": 0,
        "is_local_address": True,
        "system": {
            "id": "debian",
            "version": "12",
            "name": "Debian GNU/Linux 12 (bookworm)",
            "kernel": "6.1.0-28-cloud-amd64",
            "architecture": "x86_64",
            "python": "3.11.2",
        },
        "listeners": [],
        "disks": {"/state": {"exists": True, "writable": True, "free_bytes": 10 * GIB, "total_bytes": 20 * GIB}},
        "memory_available_bytes": 8 * GIB,
        "memlock": {"soft_bytes": 65536, "hard_bytes": 65536, "exempt": False},
        "missing_libraries": [],
        "gpus": None,
        "others": [],
        "quarantine": None,
        "lease": {"state": "free", "run": None, "told": "", "problem": ""},
        "shared_memory": {"free_bytes": GIB, "total_bytes": GIB, "files": []},
        "clock": {"offset_seconds": 0.01, "uncertainty_seconds": 0.02},
        "wanted": {
            "run": "mine",
            "address": "192.0.2.1",
            "ports": [30001],
            "libraries": {"libnuma.so.1": "libnuma1"},
            "state_dir": "/state",
            "min_free_gib": 1,
            "disks": {},
            "min_memory_gib": 1,
            "min_shared_memory_mib": 16,
            "os": [],
            "architectures": [],
            "min_kernel": "",
            "min_python": "3.9",
            "root": False,
            "memlock": 0,
            "max_clock_skew": 2.0,
            "gpus": 0,
            "first_gpu": 0,
            "min_driver": "",
            **(wanted or {}),
        },
        **changes,
    }


def two_gpus(**changes: Any) -> dict[str, Any]:
    return {"problem": "", "driver": "550.54.15", "gpus": [gpu(6), gpu(7)], **changes}


def in_memory(run: str | None) -> dict[str, Any]:
    path = "/dev/shm/x"  # noqa: S108 (nothing is made there)
    return {"path": path, "bytes": GIB, "user_id": 7, "since": 0.0, "mapped": True, "run": run}


def test_a_node_that_lacks_nothing_is_not_refused() -> None:
    node = facts()
    assert preflight.problems(node, []) == []
    assert {found["state"] for found in preflight.findings(node, [])} == {"ok"}


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the_address": (
        {},
        {"is_local_address": False},
        "192.0.2.1 is no address of this node (host-1); set ansible_host (or disagg_address) of one in the inventory",
    ),
    "disk": ({"min_free_gib": 11}, {}, "10.0 GiB of disk are free at /state (11 needed); free some"),
    "another_disk": (
        {"disks": {"/var/lib/docker": 40}},
        {
            "disks": {
                "/state": {"exists": True, "writable": True, "free_bytes": 10 * GIB},
                "/var/lib/docker": {"exists": False, "writable": False, "free_bytes": 39 * GIB},
            }
        },
        "39.0 GiB of disk are free at /var/lib/docker (40 needed); ",
    ),
    "the_state_directorys_owner": (
        {},
        {"user_id": 7, "disks": {"/state": {"exists": True, "writable": False, "free_bytes": 10 * GIB}}},
        "/state is not writable for uid 7; give it to that user, or set disagg_state_dir",
    ),
    "memory": ({"min_memory_gib": 9}, {}, "8.0 GiB of memory are available (9 needed); free some"),
    "the_system": (
        {"os": ["ubuntu 22.04", "ubuntu 24.04"]},
        {},
        "the system is Debian GNU/Linux 12 (bookworm), and it has to be ubuntu 22.04 or ubuntu 24.04; ",
    ),
    "the_architecture": ({"architectures": ["aarch64"]}, {}, "the machine is x86_64, and it has to be aarch64; "),
    "the_kernel": ({"min_kernel": "6.10"}, {}, "kernel is 6.1.0-28-cloud-amd64, and 6.10 or later is needed; install"),
    "python": ({"min_python": "3.12"}, {}, "python is 3.11.2, and 3.12 or later is needed; install it and name it in"),
    "no_root": (
        {"root": True},
        {"user_id": 1000},
        (
            "Ansible's modules run as uid 1000 on host-1, and root is needed to install packages and to run "
            "containers; set ansible_become: true in the inventory and allow the user sudo without a password"
        ),
    ),
    "memlock_of_a_user": (
        {"memlock": -1},
        {"user_id": 1000},
        (
            "uid 1000 may lock 64 KiB of memory, and RDMA needs unlimited (ulimit -l): memory cannot be "
            "registered with the device; put '* - memlock unlimited' into /etc/security/limits.d/disagg-e2e.conf"
        ),
    ),
    "memlock_in_bytes": (
        {"memlock": 131072},
        {"user_id": 1000},
        "uid 1000 may lock 64 KiB of memory, and RDMA needs 128",
    ),
    "memlock_of_a_containers_root": ({"memlock": -1}, {}, "uid 0 may lock 64 KiB of memory"),
    "a_library_without_root": (
        {},
        {"user_id": 1000, "missing_libraries": ["libnuma.so.1"]},
        (
            "libnuma.so.1 not found, and this user may not install packages; run as root on host-1: apt-get install "
            "--no-install-recommends libnuma1"
        ),
    ),
    "a_strangers_port": (
        {},
        {"listeners": [{"port": 30001, "address": "192.0.2.1", "process": process()}]},
        (
            "port 30001 of 192.0.2.1 is held by pid 4711, up since 2026-01-01 00:00:00 UTC: python -m x; stop "
            "it, or give the test case another port"
        ),
    ),
    "another_runs_port": (
        {},
        {"listeners": [{"port": 30001, "address": "::", "process": process("theirs")}]},
        (
            "port 30001 of 192.0.2.1 is held by pid 4711 of run theirs (service decode), up since 2026-01-01 "
            "00:00:00 UTC: python -m x; end it with: python -m pyharness teardown --run theirs"
        ),
    ),
    "a_port_of_a_user_that_cannot_be_seen": (
        {},
        {"listeners": [{"port": 30001, "address": "::", "process": None}]},
        "port 30001 of 192.0.2.1 is held by a process of another user; stop it",
    ),
    "no_nvidia_smi": (
        {"gpus": 2},
        {"gpus": {"problem": "nvidia-smi is not there; install the NVIDIA driver", "driver": None, "gpus": []}},
        "nvidia-smi is not there; install the NVIDIA driver",
    ),
    "too_few_gpus": (
        {"gpus": 2, "first_gpu": 7},
        {"gpus": two_gpus()},
        "GPUs 7, 8 are asked for, and the node has 6, 7; lower disagg_tensor_parallel or disagg_first_gpu",
    ),
    "another_runs_gpu": (
        {"gpus": 2, "first_gpu": 6},
        {"gpus": two_gpus(gpus=[gpu(6, None, process()), gpu(7, process("theirs"), process("theirs", 4712))])},
        (
            "GPU 7 is held by pid 4712 of run theirs (service decode), up since 2026-01-01 00:00:00 UTC: python "
            "-m x; end it with: python -m pyharness teardown --run theirs"
        ),
    ),
    "an_old_driver": (
        {"gpus": 2, "first_gpu": 6, "min_driver": "550.100"},
        {"gpus": two_gpus()},
        "NVIDIA's driver is 550.54.15, and 550.100 or later is needed; install a newer driver",
    ),
    "quarantine": (
        {},
        {
            "quarantine": {
                "node": "one",
                "reason": "GPU 6\nholds 300 MiB",
                "run": "theirs",
                "since": "2026-01-01T00:00:00Z",
            }
        },
        (
            "in quarantine since 2026-01-01T00:00:00Z, put there by run theirs: GPU 6 holds 300 MiB; put that "
            "right, then release it: python -m pyharness doctor -i INVENTORY --release one"
        ),
    ),
    "a_lease_of_another_run": (
        {},
        {"lease": {"state": "held", "run": "theirs", "told": "run theirs (test_x) of me@here", "problem": ""}},
        (
            "the node is held by run theirs (test_x) of me@here; wait until it has ended, or end it: python -m "
            "pyharness teardown --run theirs"
        ),
    ),
    "a_lease_that_was_kept": (
        {"run": "manual"},
        {"lease": {"state": "kept", "run": "theirs", "told": "run theirs (test_x), left up by --keep", "problem": ""}},
        "the node is held by run theirs (test_x), left up by --keep; wait until it has ended",
    ),
    "a_lease_that_cannot_be_read": (
        {},
        {"lease": {"state": "unknown", "run": None, "told": "", "problem": "lease /l cannot be understood; rm /l"}},
        "lease /l cannot be understood; rm /l",
    ),
    "shared_memory_that_is_full": (
        {},
        {
            "shared_memory": {
                "free_bytes": 1024,
                "total_bytes": GIB,
                "files": [in_memory(None)],
            }
        },
        (
            "0.0 GiB of 1.0 GiB free in /dev/shm, the largest is /dev/shm/x, 1.0 GiB of uid 7 since 1970-01-01 "
            "00:00:00 UTC, and 16 MiB free are needed; remove what nobody needs of them"
        ),
    ),
    "shared_memory_that_a_run_fills": (
        {},
        {
            "shared_memory": {
                "free_bytes": 0,
                "total_bytes": GIB,
                "files": [in_memory("theirs")],
            }
        },
        (
            "0.0 GiB of 1.0 GiB free in /dev/shm, the largest is /dev/shm/x of run theirs, 1.0 GiB of uid 7 since "
            "1970-01-01 00:00:00 UTC, and 16 MiB free are needed; end it with: python -m pyharness teardown "
            "--run theirs"
        ),
    ),
    "quarantine_of_the_machines_other_node": (
        {},
        {"quarantine": {"node": "two", "reason": "full", "run": None, "since": None}},
        (
            "in quarantine since a time that nobody noted, as two: full; put that right, then release it: python -m "
            "pyharness doctor -i INVENTORY --release one"
        ),
    ),
    "a_clock_off_the_controllers": (
        {},
        {"clock": {"offset_seconds": -2.1, "uncertainty_seconds": 0.05}},
        "the clock of one is -2.1 s off the controller's (2 s allowed); set both by NTP",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_run_needs_and_a_node_lacks_is_refused(name: str) -> None:
    wanted, changes, said = REFUSED[name]
    (problem,) = preflight.problems(facts(wanted, **changes), [])
    assert problem.startswith(said)
    assert "\n" not in problem


MET: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the_system": ({"os": ["Ubuntu 24.04", "Debian 12"]}, {}),
    "the_architecture": ({"architectures": ["aarch64", "x86_64"]}, {}),
    "the_kernel": ({"min_kernel": "6.1"}, {}),
    "python": ({"min_python": "3.11"}, {}),
    "root": ({"root": True}, {}),
    "memlock": ({"memlock": 65536}, {"user_id": 1000}),
    "memlock_unlimited": ({"memlock": -1}, {"memlock": {"soft_bytes": None, "hard_bytes": None, "exempt": False}}),
    "memlock_of_root": ({"memlock": -1}, {"memlock": {"soft_bytes": 65536, "hard_bytes": 65536, "exempt": True}}),
    "its_own_port": ({}, {"listeners": [{"port": 30001, "address": "::", "process": process("mine")}]}),
    "its_own_gpus": ({"gpus": 1, "first_gpu": 6}, {"gpus": two_gpus(gpus=[gpu(6, process("mine")), gpu(7)])}),
    "another_runs_other_gpu": ({"gpus": 1, "first_gpu": 6}, {"gpus": two_gpus(gpus=[gpu(6), gpu(7, process("x"))])}),
    "the_driver": ({"gpus": 2, "first_gpu": 6, "min_driver": "550.54"}, {"gpus": two_gpus()}),
    "a_library_that_root_installs": ({}, {"missing_libraries": ["libnuma.so.1"]}),
    "a_slow_connection": ({}, {"clock": {"offset_seconds": 6.0, "uncertainty_seconds": 5.0}}),
    "a_node_that_told_no_time": ({}, {"clock": None}),
    "another_run_that_holds_nothing_of_it": (
        {},
        {"others": [{"run": "theirs", "processes": 2, "containers": ["c"], "since": START}]},
    ),
}


@pytest.mark.parametrize("name", MET)
def test_what_a_run_needs_and_a_node_has_is_not_refused(name: str) -> None:
    wanted, changes = MET[name]
    assert preflight.problems(facts(wanted, **changes), []) == []


def test_all_problems_are_told_at_once() -> None:
    problems = preflight.problems(facts({"min_memory_gib": 9, "min_free_gib": 11, "os": ["x 1"]}), [])
    assert len(problems) == 3


def test_a_port_that_is_held_twice_by_one_process_is_one_problem() -> None:
    held = [{"port": 30001, "address": address, "process": process()} for address in ("0.0.0.0", "::")]
    assert len(preflight.problems(facts(listeners=held), [])) == 1


def test_a_missing_library_that_a_run_installs_is_told() -> None:
    found = preflight.findings(facts(missing_libraries=["libnuma.so.1"]), [])
    (told,) = (entry for entry in found if entry["what"] == "libraries")
    assert (told["state"], told["refuses"]) == ("missing", False)
    assert told["remedy"] == "a run installs them (apt-get install --no-install-recommends libnuma1)"


def test_other_runs_are_told_with_the_command_that_ends_them() -> None:
    others = [{"run": "theirs", "processes": 2, "containers": ["decode-1"], "since": START}]
    (told,) = (entry for entry in preflight.findings(facts(others=others), []) if entry["what"] == "other runs")
    assert told["state"] == "ok"
    assert told["said"] == ("run theirs has 2 processes and containers decode-1 here, since 2026-01-01 00:00:00 UTC")
    assert told["remedy"].endswith("python -m pyharness teardown --run theirs")


def clock(name: str, offset: float, uncertainty: float = 0.02) -> dict[str, Any]:
    return facts(name=name, clock={"offset_seconds": offset, "uncertainty_seconds": uncertainty})


def test_two_clocks_that_are_apart_are_told_with_both_offsets() -> None:
    one, two = clock("one", 0.04), clock("two", -7.3)
    for node in (one, two):
        (problem,) = preflight.problems(node, [one, two])
        assert "are 7.3 s apart (2 s allowed; off the controller's: " in problem
        assert "one +0.0 s" in problem
        assert "two -7.3 s" in problem
        assert "timedatectl set-ntp true" in problem


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (clock("one", 60.0), clock("two", 60.5)),  # the controller's clock is the one that is wrong
        (clock("one", 0.0, 0.6), clock("two", 2.5, 0.1)),  # up to 0.7 s may be the connections' doing
        (clock("one", 0.0), {**clock("two", 0.0), "clock": None}),
        (clock("one", 0.0), {}),  # a node that has not been looked at yet
    ],
)
def test_two_clocks_that_agree_as_far_as_can_be_told(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert preflight.problems(one, [one, two]) == []


def test_the_filter_gives_the_problems() -> None:
    given = NodeProblems().filters()["node_problems"]
    assert given(facts()) == []
    assert len(given(clock("one", 0.0), [clock("two", 9.0)])) == 1
