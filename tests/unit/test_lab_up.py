"""Bringing a lab up and down, against an engine that keeps what it is told."""

from __future__ import annotations

import io
import json
import tarfile
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from docker.errors import APIError, DockerException

from pyharness.errors import UsageError
from pyharness.lab import (
    base_image,
    cli,
    description,
    engine,
    environment,
    host_image,
    hosts,
    keys,
    machine,
    model,
    network,
    registry,
    up,
)
from pyharness.lab.model import Lab
from tests.unit.fake_docker import FakeDocker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from docker import DockerClient

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

DIGEST = f"sha256:{'7' * 64}"


class World:
    """A lab, its engine, and what ssh and the registry answer."""

    def __init__(self, folder: Path) -> None:
        self.docker = FakeDocker(tags={base_image.MADE: "debian"})
        self.lab = Lab(cache=folder / "cache")
        self.told: list[str] = []
        self.ssh: str | None = None
        self.pushed = False

    @property
    def client(self) -> DockerClient:
        """The fake where the SDK's class is declared."""
        fake: Any = self.docker
        return fake

    def up(self, chosen: str = "simulator") -> dict[str, Any]:
        return up.up(self.client, self.lab, chosen, self.told.append)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world where everything works."""
    made = World(tmp_path)
    found = environment.Environment(made.lab.environments / "simulator-1", None)
    found.packages.mkdir(parents=True)

    def push(*_arguments: Any, **_options: Any) -> str:
        made.pushed = True
        return DIGEST

    monkeypatch.setattr(model, "home", lambda: tmp_path)
    monkeypatch.setattr(keys, "have", lambda _lab: "ssh-ed25519 ours\n")
    monkeypatch.setattr(keys, "new_host_key", lambda: (b"private", "ssh-ed25519 theirs"))
    monkeypatch.setattr(keys, "hang_up", lambda _address: None)
    monkeypatch.setattr(machine, "image_files", dict)
    monkeypatch.setattr(machine, "routes", lambda *_arguments: [])
    monkeypatch.setattr(environment, "have", lambda *_arguments: found)
    monkeypatch.setattr(hosts, "lets_in", lambda _lab, _address: made.ssh)
    monkeypatch.setattr(hosts, "_READY_SECONDS", 0.3)
    monkeypatch.setattr(registry, "answers", lambda _lab: True)
    monkeypatch.setattr(registry, "push", push)
    monkeypatch.setattr(registry, "serves", lambda *_arguments: DIGEST)
    (tmp_path / ".ssh").mkdir()
    return made


def test_a_lab_is_two_hosts_and_a_registry_at_fixed_addresses(world: World) -> None:
    content = world.up()
    addresses = {
        one.name: hosts.address_of(world.lab, world.client.containers.get(one.name)) for one in world.docker.made
    }
    assert addresses == {
        "disagg-lab-1": "198.18.77.11",
        "disagg-lab-2": "198.18.77.12",
        "disagg-lab-registry": "198.18.77.5",
    }
    assert {one.status for one in world.docker.made} == {"running"}
    assert all(one.labels["disagg-e2e.lab"] == "1" for one in world.docker.made)
    assert content["image"] == f"198.18.77.5:5000/disagg/service-simulator@{DIGEST}"
    assert yaml.safe_load(world.lab.description.read_text()) == description.read(world.lab)


def test_the_registry_is_published_on_loopback_only(world: World) -> None:
    world.up()
    (container,) = [one for one in world.docker.made if one.name == "disagg-lab-registry"]
    assert container.arguments["ports"] == {"5000/tcp": ("127.0.0.1", 5077)}


def test_a_host_gets_keys_an_identity_and_room_for_its_docker_engine(world: World) -> None:
    world.up()
    with tarfile.open(fileobj=io.BytesIO(world.docker.archives["disagg-lab-1"])) as tar:
        found = {entry.name: (entry.mode, entry.uid) for entry in tar}
    assert found["etc/ssh/ssh_host_ed25519_key"] == (0o600, 0)
    assert found["home/disagg/.ssh/authorized_keys"] == (0o600, 1000)
    assert "etc/machine-id" in found
    assert world.docker.archives["disagg-lab-1"] != world.docker.archives["disagg-lab-2"]
    arguments = next(one.arguments for one in world.docker.made if one.name == "disagg-lab-1")
    assert "disagg-lab-1-docker:/var/lib/docker" in arguments["volumes"]
    assert f"{world.lab.environments}:/opt/disagg/envs:ro" in arguments["volumes"]
    assert "privileged" not in arguments
    assert world.lab.known_hosts.read_text().splitlines()[0].startswith("198.18.77.1")


def test_a_second_up_changes_nothing(world: World) -> None:
    world.up()
    before, written = list(world.docker.made), world.lab.description.stat().st_mtime_ns
    world.told.clear()
    world.up()
    assert world.docker.made == before
    assert world.lab.description.stat().st_mtime_ns == written
    assert world.told == []


def test_a_stopped_host_is_started_and_a_deaf_one_restarted(world: World) -> None:
    world.up()
    first, second = (world.client.containers.get(name) for name in world.lab.hosts)
    first.kill()
    world.up()
    assert [first.status, second.status] == ["running", "running"]
    assert "disagg-lab-1: answers ssh on 198.18.77.11" in world.told


def test_a_host_whose_key_was_lost_is_made_anew(world: World) -> None:
    world.up()
    before = world.client.containers.get("disagg-lab-1")
    world.lab.known_hosts.unlink()
    world.up()
    assert world.client.containers.get("disagg-lab-1") is not before
    assert len(world.docker.made) == 3


def test_a_host_that_does_not_let_ssh_in_is_an_error(world: World) -> None:
    world.ssh = "Permission denied (publickey)."
    with pytest.raises(UsageError, match=r"no ssh within .* ssh says: Permission denied"):
        world.up()
    assert not world.lab.description.exists()


def test_a_host_whose_systemd_hangs_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_image, "probe", lambda *_arguments: host_image.Flags("any"))
    world.docker.execute = lambda _command: (1, b"starting\n")
    with pytest.raises(UsageError, match="systemd did not come up"):
        world.up()


def test_hosts_that_do_not_reach_each_other_are_an_error(world: World) -> None:
    world.docker.execute = lambda command: (1, b"100% packet loss") if "ping" in command[-1] else (0, b"running\n")
    with pytest.raises(UsageError, match=r"100% packet loss; does this machine's packet filter drop frames"):
        world.up()


def test_a_refused_host_leaves_nothing_behind(world: World) -> None:
    world.docker.refuses = lambda arguments: "no such device" if arguments.get("name") == "disagg-lab-1" else None
    with pytest.raises(UsageError, match="disagg-lab-1: the Docker engine refuses this host: no such device"):
        world.up()
    assert "disagg-lab-1" not in [one.name for one in world.docker.made]
    assert "disagg-lab-1-docker" not in [one.name for one in world.docker.vols]


@pytest.mark.parametrize("name", ["disagg-lab-1", "disagg-lab-registry"])
def test_somebody_elses_container_of_the_same_name_is_left_alone(world: World, name: str) -> None:
    foreign = world.client.containers.create("any", name=name)
    with pytest.raises(UsageError, match=f"there is a container {name} that is none of the lab's"):
        world.up()
    assert foreign in world.docker.made
    with pytest.raises(UsageError, match="left alone"):
        hosts.remove_host(world.client, world.lab, name)


def test_somebody_elses_network_of_the_same_name_is_left_alone(world: World) -> None:
    world.client.networks.create("disagg-lab", labels={})
    with pytest.raises(UsageError, match="docker network rm disagg-lab"):
        world.up()


def test_a_network_whose_addresses_are_taken_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_arguments: Any, **_options: Any) -> None:
        raise APIError("refused", explanation="Pool overlaps with other one on this address space")

    monkeypatch.setattr(FakeDocker, "_add_network", taken)
    with pytest.raises(UsageError, match=r"198\.18\.77\.0/24: Pool overlaps"):
        network.have(world.client, world.lab)


def test_a_network_that_the_machine_has_a_way_to_is_not_hidden(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine, "routes", lambda *_arguments: [("eth0", IPv4Network("0.0.0.0/0")), ("tun0", world.lab.network)]
    )
    with pytest.raises(UsageError, match=r"this machine reaches 198\.18\.77\.0/24 by tun0"):
        network.have(world.client, world.lab)
    assert world.docker.nets == []


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("x", "198.18.77.300", "is no IPv4 address"),
        ("x", "198.18.78.1", "is not in the lab's network"),
        ("X_1", "198.18.77.101", "lower-case letters"),
        ("x", "198.18.77.101", "make it with: python -m pyharness lab up"),
    ],
)
def test_a_host_that_cannot_be_is_one_line(world: World, name: str, address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        hosts.start_host(world.client, world.lab, name, address)
    assert world.docker.made == []


def test_down_removes_all_and_only_the_labs(world: World) -> None:
    world.up()
    hosts.start_host(world.client, world.lab, "disagg-molecule-x", "198.18.77.101")
    up.down(world.client, world.lab, with_images=True)
    assert (world.docker.made, world.docker.vols, world.docker.nets) == ([], [], [])
    assert not world.lab.description.exists()
    assert not world.lab.known_hosts.exists()
    assert "disagg-lab-host:latest" in world.docker.removed
    up.down(world.client, world.lab)


def test_a_cut_spares_this_machine_and_is_undone(world: World) -> None:
    world.up()
    world.docker.commands.clear()
    hosts.cut(world.client, world.lab, "disagg-lab-1")
    hosts.restore(world.client, "disagg-lab-1")
    undone, made, undone_again = [command for _, command in world.docker.commands]
    assert "-s 198.18.77.1 -j RETURN" in made
    assert "-s 198.18.77.0/24 -d 198.18.77.0/24 -j DROP" in made
    assert undone == undone_again


def test_faults_of_a_host(world: World) -> None:
    world.up()
    container = world.client.containers.get("disagg-lab-1")
    hosts.stop(world.client, "disagg-lab-1")
    assert container.status == "exited"
    hosts.start(world.client, world.lab, "disagg-lab-1")
    assert container.status == "running"
    hosts.stop_sshd(world.client, "disagg-lab-1")
    hosts.start_sshd(world.client, world.lab, "disagg-lab-1")
    assert "systemctl stop ssh.service" in " ".join(command for _, command in world.docker.commands)
    world.docker.execute = lambda _command: (3, b"no such unit\n")
    with pytest.raises(RuntimeError, match=r"disagg-lab-1: .*exit code 3: no such unit"):
        hosts.stop_sshd(world.client, "disagg-lab-1")


def test_the_least_rights_that_work_are_taken_and_remembered(world: World, tmp_path: Path) -> None:
    def refuses(arguments: dict[str, Any]) -> str | None:
        return "operation not permitted" if "cap_add" in arguments or "ulimits" in arguments else None

    world.docker.refuses = refuses
    flags = host_image.probe(world.client, "host", tmp_path)
    assert flags == host_image.Flags("privileged", privileged=True)
    assert flags.arguments()["privileged"]
    assert world.docker.made == []
    world.docker.refuses = lambda _arguments: "asked again"
    assert host_image.probe(world.client, "host", tmp_path) == flags
    with pytest.raises(UsageError, match=r"unprivileged: asked again; privileged: asked again; .*CAP_SYS_ADMIN"):
        host_image.probe(world.client, "another", tmp_path)


def test_flags_that_lack_what_a_docker_engine_needs_are_not_taken(world: World, tmp_path: Path) -> None:
    world.docker.execute = lambda command: (0, b"running\n") if "systemctl" in command else (1, b"mkdir: read-only")
    with pytest.raises(UsageError, match="unprivileged: mkdir: read-only"):
        host_image.probe(world.client, "host", tmp_path)


def test_locked_memory_is_lifted_where_the_engine_may(world: World, tmp_path: Path) -> None:
    assert host_image.probe(world.client, "host", tmp_path).memlock
    (limit,) = host_image.Flags("any", memlock=True).arguments()["ulimits"]
    assert (limit.name, limit.soft, limit.hard) == ("memlock", -1, -1)


def test_status_says_what_is_up(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "connect", lambda: world.client)
    monkeypatch.setattr(cli, "Lab", lambda: world.lab)
    world.docker.execute = lambda command: (0, b"20.10\n") if command[0] == "docker" else (0, b"running\n")
    assert cli.main(["status"]) == 1
    assert "absent" in capsys.readouterr().out
    assert cli.main(["-q", "up"]) == 0
    assert "python -m pyharness test_1p1d_erdma -i inventories/lab" in capsys.readouterr().out
    assert cli.main(["host", "up", "disagg-molecule-x", "198.18.77.101"]) == 0
    assert cli.main(["status"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split() for line in table[1:4]] == [
        ["disagg-lab-1", "198.18.77.11", "running", "ok", "20.10"],
        ["disagg-lab-2", "198.18.77.12", "running", "ok", "20.10"],
        ["disagg-molecule-x", "198.18.77.101", "running", "ok", "20.10"],
    ]
    world.client.containers.get("disagg-molecule-x").kill()
    assert cli.main(["status", "--json"]) == 0, "a host that was added is not the lab"
    assert json.loads(capsys.readouterr().out)["hosts"][2]["state"] == "exited"
    world.ssh = "Connection refused"
    assert cli.main(["status"]) == 1
    assert cli.main(["host", "down", "disagg-molecule-x"]) == 0
    assert cli.main(["down"]) == 0
    assert world.docker.made == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: VERB"),
        (("upp",), "invalid choice: 'upp'"),
        (("up", "--engine", "vllm"), "invalid choice: 'vllm'"),
        (("host", "up", "x"), "the following arguments are required: ADDRESS"),
        (("down", "--all"), "unrecognized arguments: --all"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], said: str
) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("error: ")
    assert told.err.endswith("see: python -m pyharness lab --help\n")
    assert (told.err.count("\n"), told.out) == (1, "")


def test_no_engine_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    assert cli.main(["status"]) == 2
    told = capsys.readouterr()
    assert ".ci/docker-engine start" in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [("PermissionError(13, 'Permission denied')", "add it to group docker"), ("odd", "cannot be used: odd")],
)
def test_an_engine_that_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, words: str, said: str) -> None:
    def refuse(**_options: Any) -> None:
        raise DockerException(words)

    monkeypatch.setattr("docker.from_env", refuse)
    with pytest.raises(UsageError, match=said):
        engine.connect()
