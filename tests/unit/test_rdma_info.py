"""RDMA devices, read from recorded trees by the module that reads a node's own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import rdma, traffic
from ansible_collections.disagg.e2e.plugins.modules import rdma_info
from tests.unit import sysfs_trees
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

PROJECT = Path(__file__).parents[2]


def look(root: Path, **arguments: Any) -> dict[str, Any]:
    return run(rdma_info, sysfs_root=str(root / "sys"), dev_root=str(root / "dev"), **arguments)


@pytest.fixture
def seen(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that lays out a recorded tree and reads it."""

    def seeing(tree: str, **arguments: Any) -> dict[str, Any]:
        return look(sysfs_trees.recorded(tree, tmp_path), **arguments)

    return seeing


def test_an_erdma_device_in_compat_mode_is_usable(seen: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = seen("erdma-roce", mode="roce")
    assert (result["usable"], result["problem"], result["remedy"]) == (["erdma_0"], "", "")
    assert (result["changed"], result["missing"], result["driver_helps"]) == (False, {"erdma_0": []}, False)
    (device,) = result["devices"]
    assert {key: device[key] for key in ("driver", "vendor", "node_type", "mode", "firmware", "netdevs")} == {
        "driver": "erdma",
        "vendor": "0x1ded",
        "node_type": "1: CA",
        "mode": "roce",
        "firmware": "0.2.0",
        "netdevs": ["eth0"],
    }
    (port,) = device["ports"]
    assert (port["port"], port["state"], port["phys_state"]) == (1, "4: ACTIVE", "5: LinkUp")
    assert (port["link_layer"], port["rate"]) == ("Ethernet", "100 Gb/sec (4X EDR)")
    assert (port["sent"], port["received"]) == (8320, 64)
    assert [gid["index"] for gid in port["gids"]] == list(range(16))
    assert [gid["index"] for gid in port["gids"] if gid["usable"]] == [0, 1]
    assert port["gids"][1] == {
        "index": 1,
        "gid": "0000:0000:0000:0000:0000:ffff:0a00:000b",
        "type": "RoCE v2",
        "netdev": "eth0",
        "usable": True,
    }
    assert port["gids"][2]["type"] is None
    assert result["device_nodes"] == [f"{tmp_path}/dev/infiniband/uverbs0", f"{tmp_path}/dev/infiniband/rdma_cm"]
    assert result["module"] == {"name": "erdma", "loaded": True, "version": None, "compat_mode": True}


def test_counters_are_those_that_the_harness_takes_as_evidence(
    seen: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = seen("several")
    ports = traffic.rdma_ports(str(tmp_path / "sys" / "class" / "infiniband"))
    told = [
        {"device": device["name"], **{key: port[key] for key in ("port", "state", "sent", "received")}}
        for device in result["devices"]
        for port in device["ports"]
    ]
    assert told == ports


@pytest.mark.parametrize(
    ("tree", "problem", "remedy", "driver_helps"),
    [
        (
            "none",
            "no RDMA device, so only TCP is there; the kernel module erdma is not loaded",
            "disagg_transport",
            True,
        ),
        ("interface-only", "though the machine has an eRDMA interface (PCI 0000:00:07.0)", "run role erdma", True),
        ("module-only", "erdma is loaded, but no RDMA device appeared", "attach a network interface with eRDMA", True),
        ("module-only", "no eRDMA interface (PCI 1ded:107f) is attached", "lspci -d 1ded:107f", True),
        ("module-not-bound", "PCI 0000:00:07.0 was not taken by it", "dmesg", True),
        ("erdma-iwarp", "erdma_0 is iWARP (node type 4: RNIC), not RoCE", "compat_mode=Y", True),
        ("erdma-iwarp-in-tree", "the kernel's own, not the vendor's; erdma_0 is iWARP", "dkms status erdma", True),
        ("erdma-down", "erdma_0 is not ACTIVE (port 1 is 1: DOWN)", "ip link set", False),
        ("erdma-no-gid", "erdma_0 is ACTIVE, but all its GIDs are zero", "address", False),
        ("erdma-no-uverbs", "erdma_0 has no device node", "modprobe ib_uverbs", False),
        ("mlx5-infiniband", "mlx5_0 is InfiniBand (node type 1: CA), not RoCE", "erdma_devices", False),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(
    seen: Callable[..., dict[str, Any]], tree: str, problem: str, remedy: str, *, driver_helps: bool
) -> None:
    result = seen(tree, mode="roce")
    assert problem in result["problem"]
    assert remedy in result["remedy"]
    assert "\n" not in result["problem"] + result["remedy"]
    assert (result["usable"], result["driver_helps"]) == ([], driver_helps)


@pytest.mark.parametrize(
    ("tree", "mode"),
    [("erdma-iwarp", "iwarp"), ("erdma-iwarp", "any"), ("mlx5-roce", "roce"), ("mlx5-infiniband", "infiniband")],
)
def test_a_device_is_judged_by_the_mode_that_is_asked_for(
    seen: Callable[..., dict[str, Any]], tree: str, mode: str
) -> None:
    result = seen(tree, mode=mode)
    assert result["problem"] == ""
    assert len(result["usable"]) == 1


def test_an_erdma_device_in_compat_mode_is_not_iwarp(seen: Callable[..., dict[str, Any]]) -> None:
    result = seen("erdma-roce", mode="iwarp")
    assert result["problem"] == "erdma_0 is RoCE (node type 1: CA), not iWARP"
    assert "compat_mode=N" in result["remedy"]


def test_another_adapter_counts_words_and_names_its_interface(seen: Callable[..., dict[str, Any]]) -> None:
    (device,) = seen("mlx5-roce")["devices"]
    assert (device["ports"][0]["sent"], device["ports"][0]["received"]) == (400, 100)
    assert device["netdevs"] == ["ens1f0"]
    assert [gid["type"] for gid in device["ports"][0]["gids"]] == ["IB/RoCE v1", "RoCE v2"] * 2 + [None]


def test_of_several_devices_any_will_do_unless_some_are_named(
    seen: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = seen("several", mode="roce")
    assert (result["problem"], result["usable"]) == ("", ["erdma_0", "mlx5_0"])
    assert result["missing"]["erdma_1"][0].startswith("erdma_1 is not ACTIVE")
    nodes = [f"{tmp_path}/dev/infiniband/{name}" for name in ("uverbs0", "uverbs2", "rdma_cm")]
    assert result["device_nodes"] == nodes
    assert look(tmp_path, mode="roce", devices=["erdma_0"])["device_nodes"] == [nodes[0], nodes[2]]
    result = look(tmp_path, mode="roce", devices=["erdma_0", "erdma_1"])
    assert "erdma_1 is not ACTIVE" in result["problem"]
    result = look(tmp_path, devices=["erdma_7"])
    assert result["problem"] == "no RDMA device erdma_7; there are: erdma_0, erdma_1, mlx5_0"


def test_a_plain_file_is_no_device_node(seen: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert seen("erdma-roce")["problem"] == ""
    node = tmp_path / "dev" / "infiniband" / "uverbs0"
    node.unlink()
    node.write_text("")
    assert "erdma_0 has no device node" in look(tmp_path)["problem"]


def test_a_device_node_that_may_not_be_used_is_named(
    seen: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_arguments, **_options: False)
    result = seen("erdma-roce")
    assert result["problem"] == f"{tmp_path}/dev/infiniband/uverbs0 of erdma_0 cannot be read and written"
    assert result["device_nodes"] == []


def test_a_device_that_comes_up_is_waited_for(tmp_path: Path) -> None:
    root = sysfs_trees.recorded("module-only", tmp_path)
    late = threading.Timer(0.3, lambda: sysfs_trees.recorded("erdma-roce", root))
    late.start()
    result = look(root, mode="roce", timeout=30)
    late.join()
    # The device may have been seen half laid out; nothing but the end of the waiting is the subject here.
    assert (result["problem"], result["usable"]) == ("", ["erdma_0"])


def test_waiting_ends_with_what_was_seen_last(
    seen: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    judge = rdma.judge

    def judging(*given: Any) -> dict[str, Any]:
        looks.append(given)
        return judge(*given)

    monkeypatch.setattr(rdma, "judge", judging)
    assert "not ACTIVE" in seen("erdma-down", timeout=1)["problem"]
    assert len(looks) > 1


def test_packages_have_the_versions_that_dpkg_tells(
    seen: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    query = programs / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf 'ii \\terdma\\t1.5.7\\nrc \\teadm\\t1.0\\n'; echo no package >&2; exit 1\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    assert seen("erdma-roce", packages=["erdma", "eadm", "unknown"])["packages"] == {"erdma": "1.5.7"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert seen("erdma-roce", packages=["erdma"])["packages"] == {}


def test_it_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    """As on a node: one process, arguments on standard input, and nothing of this project's environment."""
    root = sysfs_trees.recorded("erdma-roce", tmp_path)
    code = (
        "import sys; from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.disagg.e2e.plugins.modules import rdma_info\n"
        f"with patch_module_args({{'sysfs_root': {str(root / 'sys')!r}, 'dev_root': {str(root / 'dev')!r}}}):\n"
        "    rdma_info.main()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["usable"] == ["erdma_0"]
