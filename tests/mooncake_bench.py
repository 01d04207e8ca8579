"""Real Mooncake on this machine without a run: masters and agents as services of a trial, for tests of checks.

The services run under a supervisord as in a run, so that faults work on them. Deploying them with Ansible takes many
times as long, and tests of checks need dozens of deployments, each broken in its own way.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import Supervisor
from pyharness import case, exercise, paths, results
from pyharness.deployment import Service
from pyharness.engines.mooncake import Mooncake
from pyharness.verification.base import Recorder, Trial
from pyharness.verification.node_probe import Nodes
from tests.unit.builders import make_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.exercise import Exchange

ROLES = paths.COLLECTION / "roles"
READY_SECONDS = 60.0
NODES = {"a": "prefill", "b": "decode"}


@dataclass(frozen=True)
class Provisioned:
    """Where Mooncake is."""

    python: str
    overlay: str
    wheel: dict[str, Any]


@dataclass
class Bench:
    """Two logical nodes of this machine with services of Mooncake.

    Attributes:
        where: the environment and the wheel.
        folder: for files.
        inventory: for the nodes.
        addresses: by node.
        run: the run's id.
    """

    where: Provisioned
    folder: Path
    inventory: Path
    addresses: dict[str, str]
    run: str
    services: list[Service] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(str(self.folder))
        self.supervisor.write_config()
        command = [str(Path(sys.executable).with_name("supervisord")), "-c", str(self.supervisor.config)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        assert self.supervisor.wait_up(10)

    def port(self, node: str) -> int:
        """Return a port of a node that is free."""
        with socket.socket() as probe:
            probe.bind((self.addresses[node], 0))
            return int(probe.getsockname()[1])

    def start(self, name: str, kind: str, node: str, port: int, command: list[str], path: str = "/health") -> Service:
        """Start a service, in place of one of that name, and wait until it answers."""
        self._end(name)
        marks = {
            node_state.RUN_VARIABLE: self.run,
            node_state.NODE_VARIABLE: node,
            node_state.SERVICE_VARIABLE: name,
        }
        environment = {"PYTHONPATH": self.where.overlay, "PATH": "/usr/bin:/bin", **marks}
        log = str(self.folder / f"{name}.log")
        spec = {"command": command, "environment": environment, "directory": str(self.folder), "log": log}
        self.supervisor.write_program(name, {**spec, "stop_signal": "KILL", "stop_grace": 1})
        self.supervisor.rpc.reloadConfig()
        self.supervisor.rpc.addProcessGroup(name)
        status = self.supervisor.status(name)
        assert status is not None
        found = node_state.process(status["pid"])
        url = f"http://{self.addresses[node]}:{port}"
        service = Service(
            name=name,
            kind=kind,
            node=node,
            address=self.addresses[node],
            port=port,
            url=url,
            ready_url=url + path,
            ready_timeout=READY_SECONDS,
            hang_timeout=10,
            pid=status["pid"],
            started_at=found["started_at"] if found else 0.0,
            ready_at=None,
            command=command,
            environment=environment,
            log=log,
            run_dir=str(self.folder),
        )
        deadline = time.monotonic() + READY_SECONDS
        while exercise.get(service.ready_url, 2.0).status != 200:
            assert time.monotonic() < deadline, Path(log).read_text()
            assert node_state.process(service.pid), Path(log).read_text()
            time.sleep(0.05)
        self.services.append(service)
        return service

    def agent(self, name: str, *misbehave: str, transport: str = "tcp", capacity: int = 8 << 20) -> Service:
        """Start an agent of role transfer_agent; its name ends with its node's letter."""
        node = NODES[name[-1]]
        port = self.port(node)
        command = [self.where.python, str(ROLES / "transfer_agent/files/transfer_agent.py")]
        command += [f"--host={self.addresses[node]}", f"--port={port}", f"--transport={transport}"]
        command += [f"--capacity={capacity}", *_twice("--misbehave", misbehave)]
        return self.start(name, "agent", node, port, command)

    def master(self, *arguments: str, lease: float = 1.0, client_ttl: int = 1) -> Service:
        """Start a master on the first node."""
        address, ports = self.addresses["prefill"], [self.port("prefill") for _ in range(2)]
        command = [self.where.python, "-m", "mooncake.cli", f"--rpc_address={address}", f"--rpc_port={ports[0]}"]
        command += [f"--metrics_host={address}", f"--metrics_port={ports[1]}", f"--client_ttl={client_ttl}"]
        command += [f"--default_kv_lease_ttl={round(lease * 1000)}", *arguments]
        self.start("master", "master", "prefill", ports[1], command)
        self.services[-1] = self.services[-1].model_copy(update={"endpoints": {"rpc": f"{address}:{ports[0]}"}})
        return self.services[-1]

    def client(
        self,
        name: str,
        *misbehave: str,
        transport: str = "tcp",
        segment: int = 16 << 20,
        metadata: str = "P2PHANDSHAKE",
    ) -> Service:
        """Start a client of the store that the bench's master has; its name ends with its node's letter."""
        node = NODES[name[-1]]
        port = self.port(node)
        master = next(service for service in self.services if service.kind == "master").endpoints["rpc"]
        command = [self.where.python, str(ROLES / "store_client/files/store_client.py")]
        command += [f"--host={self.addresses[node]}", f"--port={port}", f"--master={master}", f"--metadata={metadata}"]
        command += [f"--transport={transport}", f"--segment-size={segment}", f"--buffer-size={16 << 20}"]
        return self.start(name, "client", node, port, [*command, *_twice("--misbehave", misbehave)])

    def trial(self, name: str, **workload: Any) -> Trial:
        """Return a trial of a case with all that was started, as a run would make it."""
        declared = case.load(name)
        deployment = make_deployment(
            run_id=self.run,
            test_case=name,
            model=None,
            workload={**declared.workload, **workload},
            services=[service.model_dump() for service in self.services],
            transport={"declared": "rdma", "requested": "tcp"},
            wheel=self.where.wheel,
            nodes=list(self.addresses),
        )

        def send(url: str, body: dict[str, Any], timeout: float) -> Exchange:
            return exercise.post(url, body, timeout)

        return Trial(
            case=declared,
            deployment=deployment,
            nodes=Nodes(self.inventory),
            engine=Mooncake(),
            recorder=Recorder(None, []),
            transport=results.TransportUse(declared="rdma", requested="tcp"),
            requested_wheel=None,
            logs=self.folder,
            send=send,
        )

    def change_the_wheel(self, file: str) -> None:
        """Have all that is started from now on take a copy of the wheel in which one file has a byte more."""
        copy = self.folder / "wheel"
        unused = shutil.ignore_patterns("transfer_engine_bench", "mooncake_client", "*.dist-info")
        shutil.copytree(self.where.overlay, copy, ignore=unused)
        with (copy / file).open("ab") as stream:
            stream.write(b"\n")
        self.where = replace(self.where, overlay=str(copy))

    def _end(self, name: str) -> None:
        if self.supervisor.status(name) is not None:
            self.supervisor.rpc.stopProcess(name, True)  # noqa: FBT003 (XML-RPC has no names: wait)
            self.supervisor.rpc.removeProcessGroup(name)
        self.services = [service for service in self.services if service.name != name]

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        self.supervisor.rpc.shutdown()
        for left in node_state.wait_gone(self.run, 10):
            pytest.fail(f"{left} is left")


def _twice(option: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _inventory(folder: Path, name: str) -> tuple[Path, dict[str, str]]:
    number = zlib.crc32(f"{name}{time.time_ns()}".encode())
    block = f"127.{100 + number % 100}.{number // 100 % 250 + 1}"
    addresses = {"prefill": f"{block}.1", "decode": f"{block}.2"}
    shutil.copytree(paths.INVENTORIES / "local" / "group_vars", folder / "group_vars")
    (folder / "hosts.yml").write_text(
        "all:\n  children:\n"
        f"    prefill_nodes: {{hosts: {{prefill: {{ansible_host: {addresses['prefill']}}}}}}}\n"
        f"    decode_nodes: {{hosts: {{decode: {{ansible_host: {addresses['decode']}}}}}}}\n"
    )
    return folder, addresses


def provision(folder: Path) -> Provisioned:
    """Have Mooncake's environment and wheel on this machine, by the project's own roles."""
    paths.use_project_ansible()
    facts = folder / "facts.json"
    inventory, _ = _inventory(folder / "inventory", "provision")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory)]
    command += [str(Path(__file__).with_name("mooncake_provision.yml")), "-e", "disagg_run=provision"]
    done = subprocess.run([*command, "-e", f"facts_file={facts}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-1000:]}"
    return Provisioned(**json.loads(facts.read_text()))


@pytest.fixture(scope="session")
def mooncake(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    """Return where Mooncake is on this machine."""
    return provision(tmp_path_factory.mktemp("mooncake"))


@pytest.fixture
def bench(mooncake: Provisioned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return a bench of this test's own."""
    folder = tmp_path_factory.mktemp("b")  # short: a Unix socket lies in it
    inventory, addresses = _inventory(folder / "inventory", folder.name)
    made = Bench(mooncake, folder, inventory, addresses, f"bench-{addresses['prefill'].replace('.', '-')}")
    yield made
    made.close()
