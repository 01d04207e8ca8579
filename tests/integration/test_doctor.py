"""The verb doctor with real Ansible on nodes of this machine, and on some that nobody can reach."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import lease
from pyharness import paths

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

# One that is well, one whose port is held and whose address is another's, and three that fail each in its own way.
HOSTS = """\
all:
  children:
    prefill_nodes:
      hosts:
        held: {ansible_host: 127.43.7.1}
    decode_nodes:
      hosts:
        stranger: {ansible_host: 192.0.2.1}
        refused: {ansible_host: 127.43.7.9, ansible_connection: ssh}
        unknown: {ansible_host: no-such-host.invalid, ansible_connection: ssh}
        snakeless: {ansible_host: 127.43.7.4, ansible_python_interpreter: /no/such/python}
"""


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb as a process of its own."""
    command = [sys.executable, "-m", "pyharness", "doctor", *arguments]
    return subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Return an inventory with the simulator's variables and a state directory of its own."""
    shutil.copytree(paths.INVENTORIES / "simulator" / "group_vars", tmp_path / "inventory" / "group_vars")
    with (tmp_path / "inventory" / "group_vars" / "all.yml").open("a") as stream:
        stream.write("\nansible_ssh_common_args: -o ControlPath=none\n")
    (tmp_path / "inventory" / "hosts.yml").write_text(HOSTS)
    return tmp_path / "inventory"


def test_all_that_is_wrong_with_all_nodes_is_told_at_once(inventory: Path) -> None:
    with socket.create_server(("127.43.7.1", 30001)):
        done = doctor("test_1p1d_erdma", "-i", str(inventory), "--json")
    assert done.returncode == 2, done.stderr
    found: dict[str, dict[str, Any]] = {}
    for row in json.loads(done.stdout)["rows"]:
        if row["state"] != "ok":
            found.setdefault(row["node"], {})[row["what"]] = row
    assert set(found["held"]) - {"package index"} == {"ports"}
    assert f"is held by pid {os.getpid()}, up since" in found["held"]["ports"]["said"]
    assert set(found["stranger"]) - {"package index"} == {"address"}
    assert found["refused"]["ssh"]["said"] == "cannot be reached: the host is up, and nothing listens on port 22"
    assert found["unknown"]["ssh"]["said"] == "cannot be reached: the name no-such-host.invalid cannot be resolved"
    assert found["snakeless"]["python"]["said"] == "there is no Python at /no/such/python"


def test_two_clocks_that_are_apart_are_told_of_both_nodes(inventory: Path, tmp_path: Path) -> None:
    """One of the nodes has a shell whose `date` is seven seconds ahead: no test may set this machine's clock."""
    programs = tmp_path / "ahead"
    programs.mkdir()
    (programs / "date").write_text('#!/bin/sh\nexec /bin/date -d "+7 seconds" "$@"\n')
    (programs / "sh").write_text(f'#!/bin/sh\nPATH={programs}:$PATH exec /bin/sh "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (inventory / "hosts.yml").write_text(
        "all:\n  hosts:\n    here: {ansible_host: 127.43.7.1}\n"
        f"    ahead: {{ansible_host: 127.43.7.2, ansible_shell_executable: {programs}/sh}}\n"
    )
    done = doctor("-i", str(inventory), "--json")
    rows = {row["node"]: row for row in json.loads(done.stdout)["rows"] if row["what"] == "clock"}
    assert {row["state"] for row in rows.values()} == {"wrong"}, done.stdout
    assert rows["here"]["said"].startswith(
        "the clocks of here and ahead are 7.0 s apart (2 s allowed; off the controller's"
    )
    assert "ahead +7.0 s" in rows["here"]["said"]
    assert "ahead +7.0 s" in rows["ahead"]["said"]


def test_a_quarantine_is_told_and_released(inventory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with (inventory / "group_vars" / "all.yml").open("a") as stream:
        stream.write(f"disagg_state_dir: {state}\n")
    (inventory / "hosts.yml").write_text("all: {hosts: {one: {ansible_host: 127.43.7.1}}}\n")
    entry = {"node": "one", "reason": "GPU 6 holds 300 MiB", "run": "r1", "since": "2026-01-01T00:00:00Z"}
    (state / "quarantine.json").write_text(json.dumps(entry))

    told = doctor("-i", str(inventory))
    assert told.returncode == 2
    assert "in quarantine since 2026-01-01T00:00:00Z, put there by run r1: GPU 6 holds 300 MiB" in told.stdout
    assert "python -m pyharness doctor -i INVENTORY --release one" in told.stdout
    assert (state / "quarantine.json").exists(), "looking changes nothing"

    released = doctor("-i", str(inventory), "--release", "one")
    assert (released.returncode, released.stderr) == (0, "")
    assert released.stdout.startswith("one is released; it was in quarantine since 2026-01-01T00:00:00Z, by run r1")
    assert list(state.iterdir()) == []


def test_a_logical_nodes_own_quarantine_and_lease_are_told_and_its_neighbours_are_free(
    inventory: Path, tmp_path: Path
) -> None:
    state, leases = tmp_path / "state", tmp_path / "leases"
    state.mkdir()
    with (inventory / "group_vars" / "all.yml").open("a") as stream:
        stream.write(f"disagg_state_dir: {state}\ndisagg_lease_dir: {leases}\n")
    hosts = "all: {hosts: {one: {ansible_host: 127.43.7.1}, two: {ansible_host: 127.43.7.2}}}\n"
    (inventory / "hosts.yml").write_text(hosts)
    entry = {"node": "one", "reason": "pid 7 stays", "run": "r1", "since": "2026-01-01T00:00:00Z"}
    (state / "quarantine-127.43.7.1.json").write_text(json.dumps(entry))
    claim: dict[str, Any] = {
        "name": "127.43.7.2",
        "nodes": ["two"],
        "run": "r2",
        "test_case": "test_it",
        "holder": "me",
    }
    claim |= {"process": "p", "ttl_seconds": 600.0, "expected_seconds": None, "dead": []}
    assert lease.take(lease.path(str(leases), "127.43.7.2"), claim)["taken"]

    told = doctor("-i", str(inventory), "--json")
    wrong = {(row["node"], row["what"]): row["said"] for row in json.loads(told.stdout)["rows"] if row["state"] != "ok"}
    released = doctor("-i", str(inventory), "--release", "one")

    assert told.returncode == 2
    assert {key for key in wrong if key[1] in ("quarantine", "lease")} == {("one", "quarantine"), ("two", "lease")}
    assert "pid 7 stays" in wrong["one", "quarantine"]
    assert wrong["two", "lease"].startswith("the node is held by run r2 (test_it) of me since ")
    assert released.stdout.startswith("one is released; it was in quarantine since 2026-01-01T00:00:00Z, by run r1")
    assert list(state.iterdir()) == []


def test_a_node_that_is_not_in_the_inventory_is_a_usage_error(inventory: Path) -> None:
    done = doctor("-i", str(inventory), "--release", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: -i {inventory}: it has no node called nobody; see: ansible-inventory")
