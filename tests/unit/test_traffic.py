"""What has crossed the network: a real TCP connection, and recorded trees of RDMA devices."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import traffic

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.0.0.43"


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (iproute2)")
def test_a_connections_bytes_are_the_kernels_count() -> None:
    sent = b"x" * 100_000
    with (
        socket.create_server((ADDRESS, 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as served,
    ):
        client.sendall(sent)
        left = len(sent)
        while left:
            left -= len(served.recv(left))
        served.sendall(b"thanks")
        assert client.recv(6) == b"thanks"
        found = traffic.tcp_connections([os.getpid()])
        assert found is not None
        by_port = {entry["port"]: entry for entry in found}
        (address, port), end = client.getsockname(), listening.getsockname()
        near, far = by_port[port], by_port[end[1]]
    assert (near["bytes_sent"], near["bytes_received"]) == (100_000, 6)
    assert (far["bytes_sent"], far["bytes_received"]) == (6, 100_000)
    assert (near["address"], near["remote_address"], near["remote_port"]) == (address, *end)
    assert (far["address"], far["remote_address"], far["remote_port"]) == (*end[:1], address, port)
    assert near["pids"] == [os.getpid()]


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (iproute2)")
def test_connections_of_others_are_not_listed() -> None:
    with socket.create_server((ADDRESS, 0)) as listening, socket.create_connection(listening.getsockname()):
        own, others = traffic.tcp_connections([os.getpid()]), traffic.tcp_connections([1])
        port = listening.getsockname()[1]
    assert own is not None
    assert others is not None
    assert port in [entry["remote_port"] for entry in own]
    assert port not in [entry["remote_port"] for entry in others]


def recorded(monkeypatch: pytest.MonkeyPatch, output: str, status: int = 0) -> list[dict[str, Any]] | None:
    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, status, output, "")

    monkeypatch.setattr(subprocess, "run", run)
    return traffic.tcp_connections([7, 8])


def test_several_owners_and_a_mapped_address_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        '0 0 [::ffff:10.0.0.1]:30001 [fe80::2%eth0]:45000 users:(("a",pid=7,fd=3),("b",pid=8,fd=4),("c",pid=9,fd=5)) '
        "ino:1 sk:2 cubic bytes_sent:5 bytes_acked:6 bytes_received:77 segs_out:1\n"
    )
    found = recorded(monkeypatch, line)
    assert found == [
        {
            "pids": [7, 8],
            "address": "10.0.0.1",
            "port": 30001,
            "remote_address": "fe80::2",
            "remote_port": 45000,
            "bytes_sent": 5,
            "bytes_received": 77,
        }
    ]


def test_what_the_kernel_does_not_name_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded(monkeypatch, '0 0 10.0.0.1:1 10.0.0.2:2 users:(("a",pid=7,fd=3)) cubic\n')
    assert found is not None
    assert (found[0]["bytes_sent"], found[0]["bytes_received"]) == (0, 0)


def test_an_ss_that_does_not_understand_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded(monkeypatch, "", status=255) is None


def test_without_ss_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert traffic.tcp_connections([os.getpid()]) is None


def tree(root: Path, device: str, port: int, files: dict[str, str]) -> None:
    folder = root / device / "ports" / str(port)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_a_mellanox_port_counts_words(tmp_path: Path) -> None:
    tree(tmp_path, "mlx5_0", 1, {
        "state": "4: ACTIVE", "counters/port_xmit_data": "100", "counters/port_rcv_data": "25",
    })  # fmt: skip
    assert traffic.rdma_ports(str(tmp_path)) == [
        {"device": "mlx5_0", "port": 1, "state": "4: ACTIVE", "sent": 400, "received": 100}
    ]


def test_an_erdma_port_counts_bytes_of_its_own(tmp_path: Path) -> None:
    tree(tmp_path, "erdma_0", 1, {
        "state": "4: ACTIVE", "hw_counters/hw_tx_bytes_cnt": "8320", "hw_counters/hw_rx_bytes_cnt": "64",
        "counters/port_xmit_data": "0", "counters/port_rcv_data": "0",
    })  # fmt: skip
    (port,) = traffic.rdma_ports(str(tmp_path))
    assert (port["sent"], port["received"]) == (8320, 64)


def test_a_port_that_counts_nothing_is_not_read_as_zero(tmp_path: Path) -> None:
    tree(tmp_path, "rxe0", 1, {"counters/port_xmit_data": "N/A", "counters/port_rcv_data": ""})
    assert traffic.rdma_ports(str(tmp_path)) == [
        {"device": "rxe0", "port": 1, "state": None, "sent": None, "received": None}
    ]


def test_all_ports_of_all_devices_are_listed(tmp_path: Path) -> None:
    for device, port in (("b", 1), ("a", 2), ("a", 1)):
        tree(tmp_path, device, port, {"state": "1: DOWN"})
    found = traffic.rdma_ports(str(tmp_path))
    assert [(entry["device"], entry["port"]) for entry in found] == [("a", 1), ("a", 2), ("b", 1)]


def test_a_machine_without_rdma_has_no_ports(tmp_path: Path) -> None:
    assert traffic.rdma_ports(str(tmp_path / "none")) == []
