"""The lab is what it says: hosts like real ones, strict about keys; and up, down and faults do what they say.

On a lab of its own, so that the shared one is neither broken nor waited for.
"""

from __future__ import annotations

import socket
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import NotFound

from pyharness.errors import UsageError
from pyharness.lab import description, engine, hosts, keys, registry, status, up
from pyharness.lab.model import NAME_LABEL, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

pytestmark = [pytest.mark.post_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]


@pytest.fixture(scope="module")
def own(docker_client: DockerClient) -> Iterator[Lab]:
    """Return a lab that is up, of these tests alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine = Lab("disagg-labtest", IPv4Network("198.18.79.0/24"), port, "disagg-e2e-labtest")
    up.down(docker_client, mine)  # of an interrupted session
    up.up(docker_client, mine, "simulator", lambda _text: None)
    yield mine
    up.down(docker_client, mine)


def ssh(lab: Lab, address: str, command: str, **replaced: Path) -> subprocess.CompletedProcess[str]:
    """Run a command on a host, with files of ssh replaced."""
    line = " ".join(keys.ssh_command(lab, address))
    if "known_hosts" in replaced:
        line = line.replace(str(lab.known_hosts), str(replaced["known_hosts"]))
    if "key" in replaced:
        line = line.replace(f"IdentityFile={lab.key}", f"IdentityFile={replaced['key']}")
    return subprocess.run([*line.split(), command], capture_output=True, text=True, check=False, timeout=60)


def answer(lab: Lab, address: str, command: str) -> str:
    done = ssh(lab, address, command)
    assert done.returncode == 0, f"{address}: {command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def identities(client: DockerClient, lab: Lab) -> dict[str, tuple[str, str]]:
    """Return each container's id and when it was started."""
    found = client.containers.list(all=True, filters={"label": f"{NAME_LABEL}={lab.name}"})
    return {one.name: (one.id, one.attrs["State"]["StartedAt"]) for one in found}


def test_the_hosts_are_like_real_ones(own: Lab) -> None:
    for name, address in own.hosts.items():
        assert answer(own, address, "hostname") == name
        assert answer(own, address, "ps -p 1 -o comm=") == "systemd"
        assert answer(own, address, "systemctl is-system-running") == "running"
        assert answer(own, address, "id -un && sudo -n id -un").split() == ["disagg", "root"]


def test_each_host_has_an_identity_of_its_own(own: Lab) -> None:
    known = [line.split() for line in own.known_hosts.read_text().splitlines()]
    assert {address for address, _, _ in known} == set(own.hosts.values())
    assert len({key for _, _, key in known}) == 2
    machines = {answer(own, address, "cat /etc/machine-id") for address in own.hosts.values()}
    assert len(machines) == 2
    assert "" not in machines


def test_the_key_is_the_users_alone(own: Lab) -> None:
    assert own.key.stat().st_mode & 0o777 == 0o600


def test_a_host_with_another_key_is_refused(own: Lab, tmp_path: Path) -> None:
    """The other host's key in its place: what a host that was swapped looks like."""
    first, second = own.hosts.values()
    swapped = tmp_path / "known_hosts"
    swapped.write_text(own.known_hosts.read_text().replace(second, "elsewhere").replace(first, second))
    done = ssh(own, second, "true", known_hosts=swapped)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_a_host_without_a_known_key_is_refused(own: Lab, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").touch()
    done = ssh(own, next(iter(own.hosts.values())), "true", known_hosts=tmp_path / "known_hosts")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_another_user_key_is_refused(own: Lab, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    done = ssh(own, next(iter(own.hosts.values())), "true", key=tmp_path / "key")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_the_hosts_reach_each_other_until_one_is_cut_off(docker_client: DockerClient, own: Lab) -> None:
    (first, first_address), (second, second_address) = own.hosts.items()
    answer(own, first_address, f"ping -q -c 1 -W 5 {second}")
    hosts.cut(docker_client, own, first)
    hosts.cut(docker_client, own, first)  # twice is as good as once
    assert ssh(own, first_address, f"ping -q -c 1 -W 1 {second_address}").returncode == 1
    assert ssh(own, second_address, f"ping -q -c 1 -W 1 {first_address}").returncode == 1
    assert ssh(own, first_address, f"curl -fsS -m 1 http://{own.registry}/v2/").returncode == 28
    hosts.restore(docker_client, first)
    answer(own, second_address, f"ping -q -c 1 -W 5 {first_address}")
    assert "DISAGG" not in answer(own, first_address, "sudo iptables -S")


def test_up_repairs_what_a_test_broke(docker_client: DockerClient, own: Lab) -> None:
    first, second = own.hosts
    before = identities(docker_client, own)
    hosts.cut(docker_client, own, first)
    hosts.stop_sshd(docker_client, second)
    assert ssh(own, own.hosts[second], "true").returncode == 255
    up.up(docker_client, own, "simulator", lambda _text: None)
    answer(own, own.hosts[first], f"ping -q -c 1 -W 5 {own.hosts[second]}")
    hosts.stop(docker_client, second)
    assert not status.status(docker_client, own)["up"]
    up.up(docker_client, own, "simulator", lambda _text: None)
    assert status.status(docker_client, own)["up"]
    after = identities(docker_client, own)
    assert {name: one for name, (one, _) in after.items()} == {name: one for name, (one, _) in before.items()}
    assert after[first] == before[first]


def test_a_stopped_host_and_sshd_come_back(docker_client: DockerClient, own: Lab) -> None:
    name, address = next(iter(own.hosts.items()))
    hosts.stop(docker_client, name)
    hosts.start(docker_client, own, name)
    answer(own, address, "true")
    hosts.stop_sshd(docker_client, name)
    hosts.start_sshd(docker_client, own, name)
    answer(own, address, "true")


def test_the_registry_serves_the_image_by_its_digest(own: Lab) -> None:
    image = description.read(own)["image"]
    repository, digest = image.removeprefix(f"{own.registry}/").split("@")
    assert registry.serves(own, repository, digest) == digest
    assert registry.serves(own, repository, f"sha256:{'0' * 64}") is None


def test_a_docker_engine_runs_inside_and_runs_the_service_image(own: Lab) -> None:
    """As role docker_engine does: from the package archive, with the lab's registry allowed."""
    address = next(iter(own.hosts.values()))
    answer(own, address, "sudo apt-get -qq update && sudo apt-get -qqy --no-install-recommends install docker.io 2>&1")
    answer(own, address, f'echo \'{{"insecure-registries": ["{own.registry}"]}}\' | sudo tee /etc/docker/daemon.json')
    answer(own, address, "sudo systemctl restart docker")
    run = f"sudo docker run --rm --network host {description.read(own)['image']}"
    assert "--pd-disaggregation" in answer(own, address, f"{run} python3 -m sglang_router.launch_router --help")
    assert "serve" in answer(own, address, f"{run} python3 -m pyharness.simulator --help")
    lacking = ssh(own, address, f"{run} python3 -c 'import mooncake'")
    assert "No module named 'mooncake'" in lacking.stderr
    assert answer(own, address, f"{run} ls /usr/share/keyrings").startswith("debian-archive")


def test_a_second_up_changes_nothing(docker_client: DockerClient, own: Lab) -> None:
    before, written = identities(docker_client, own), own.description.stat().st_mtime_ns
    told: list[str] = []
    up.up(docker_client, own, "simulator", told.append)
    assert identities(docker_client, own) == before
    assert own.description.stat().st_mtime_ns == written
    assert told == []


def test_a_container_of_somebody_else_is_left_alone(docker_client: DockerClient, own: Lab) -> None:
    foreign = docker_client.containers.create(description.read(own)["host_image"], "true", name=f"{own.name}-foreign")
    try:
        with pytest.raises(UsageError, match="none of the lab's"):
            hosts.start_host(docker_client, own, foreign.name, str(own.network[150]))
        with pytest.raises(UsageError, match="left alone"):
            hosts.remove_host(docker_client, own, foreign.name)
        foreign.reload()
    finally:
        foreign.remove(force=True)


def test_down_leaves_nothing(docker_client: DockerClient, own: Lab) -> None:
    """With a host that a test or molecule added and forgot."""
    hosts.start_host(docker_client, own, f"{own.name}-forgotten", str(own.network[150]))
    up.down(docker_client, own)
    label = {"label": f"{NAME_LABEL}={own.name}"}
    assert docker_client.containers.list(all=True, filters=label) == []
    assert docker_client.volumes.list(filters=label) == []
    assert docker_client.networks.list(filters=label) == []
    with pytest.raises(NotFound):
        docker_client.volumes.get(f"{own.name}-forgotten-docker")
    left = [file for file in (own.key, Path(f"{own.key}.pub"), own.known_hosts, own.description) if file.exists()]
    assert left == []
    found: dict[str, Any] = status.status(engine.connect(), own)
    assert not found["up"]
    up.down(docker_client, own)  # nothing to remove is no error
