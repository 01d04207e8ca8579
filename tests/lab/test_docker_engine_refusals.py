"""What the role docker_engine will not do, in one line each, and what is left as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pyharness.lab import host_image, images
from tests.lab.role_runner import Host, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from pyharness.lab.model import Lab

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

SETTINGS = "/etc/docker/daemon.json"
HOLD_LOCK = (
    "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
    "open('/run/held', 'w'); time.sleep(600)"
)


@pytest.fixture(scope="module")
def bare(docker_client: DockerClient, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return a host without an engine."""
    with started(docker_client, lab, 161, tmp_path_factory.mktemp("bare")) as host:
        yield host
        assert host.shell("command -v dockerd || true") == "", "a refusal installed it"


@pytest.fixture(scope="module")
def used(docker_client: DockerClient, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return a host whose engine runs somebody's container."""
    with started(docker_client, lab, 162, tmp_path_factory.mktemp("used")) as host:
        applied = host.apply("docker_engine")
        assert applied.succeeded, applied.message
        host.shell("apt-get install -qq -y busybox-static && tar -C / -c bin/busybox | docker import - somebodys:1")
        host.shell("docker run -d --name somebodys-work --network none somebodys:1 /bin/busybox sleep 86400")
        yield host


def test_settings_that_are_no_json_are_left_alone(bare: Host) -> None:
    bare.shell(f"mkdir -p /etc/docker && echo '{{\"debug\": true,}}' > {SETTINGS}")
    try:
        applied = bare.apply("docker_engine", docker_engine_insecure_registries=["198.18.77.5:5000"])
        left = bare.shell(f"cat {SETTINGS}; ls /etc/docker")
    finally:
        bare.shell("rm -r /etc/docker")
    assert not applied.succeeded
    assert f"{SETTINGS} cannot be read, so nothing was written: " in applied.message
    assert left.split() == ['{"debug":', "true,}", "daemon.json"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"docker_engine_registry_mirrors": ["mirror.example:5000"]},
        {"docker_engine_insecure_registries": ["http://198.18.77.5:5000"]},
    ],
    ids=["mirror", "insecure"],
)
def test_a_registry_in_a_form_that_stops_the_daemon_is_refused(bare: Host, wrong: dict[str, list[str]]) -> None:
    applied = bare.apply("docker_engine", **wrong)
    assert not applied.succeeded
    assert f"a Docker daemon would not start with {next(iter(wrong.values()))[0]}; write " in applied.message


def test_a_user_who_is_not_root_is_told_so(bare: Host) -> None:
    applied = bare.apply("docker_engine", ansible_become=False)
    assert not applied.succeeded
    assert "set ansible_become to true" in applied.message


def test_a_held_lock_of_apt_names_its_holder(bare: Host) -> None:
    bare.shell(f'systemd-run --unit=holder python3 -c "{HOLD_LOCK}"')
    bare.shell("timeout 20 bash -c 'until test -e /run/held; do sleep 0.1; done'")
    pid = bare.shell("systemctl show --property MainPID --value holder")
    try:
        applied = bare.apply("docker_engine", docker_engine_apt_lock_timeout=1)
    finally:
        bare.shell("systemctl stop holder")
    assert not applied.succeeded
    assert f"/var/lib/dpkg/lock-frontend is held by pid {pid} (/usr/bin/python3 -c import fcntl" in applied.message
    assert "docker_engine_apt_lock_timeout" in applied.message


def test_a_restart_that_would_stop_a_container_is_refused(used: Host) -> None:
    before = used.shell(f"cat {SETTINGS}")
    applied = used.apply("docker_engine", docker_engine_settings={"log-driver": "local"})
    assert not applied.succeeded
    assert "to change log-driver the Docker engine has to be restarted" in applied.message
    assert "would stop somebodys-work; nothing was written" in applied.message
    assert used.shell(f"cat {SETTINGS}") == before
    assert used.shell("docker inspect --format '{{.State.Running}}' somebodys-work") == "true"


def test_settings_that_the_engine_refuses_are_taken_back(used: Host) -> None:
    before = used.shell(f"cat {SETTINGS}")
    wrong = {"storage-driver": "of-no-such-kind", "live-restore": True}
    applied = used.apply("docker_engine", docker_engine_settings=wrong)
    assert not applied.succeeded
    assert "the Docker engine does not take live-restore, storage-driver (the old settings are back" in applied.message
    assert json.loads(used.shell(f"cat {SETTINGS}")) == json.loads(before)
    assert used.shell("systemctl is-active docker") == "active"


def test_a_key_with_another_fingerprint_brings_no_toolkit(used: Host) -> None:
    used.shell("mkdir -p /srv/key && echo no key > /srv/key/gpgkey")
    used.shell("systemd-run --unit=key-server python3 -m http.server 8098 --bind 127.0.0.1 --directory /srv/key")
    used.shell("timeout 20 bash -c 'until true < /dev/tcp/127.0.0.1/8098; do sleep 0.1; done'")
    applied = used.apply(
        "docker_engine", docker_engine_nvidia=True, docker_engine_nvidia_key="http://127.0.0.1:8098/gpgkey"
    )
    assert not applied.succeeded
    assert "http://127.0.0.1:8098/gpgkey is no signing key" in applied.output
    assert used.shell("ls /etc/apt/sources.list.d") == used.shell("ls /etc/apt/sources.list.d | grep -v nvidia")


def test_without_systemd_an_engine_is_started_by_hand_and_then_told_by_a_signal(
    docker_client: DockerClient, lab: Lab, tmp_path: Path
) -> None:
    image = images.present(docker_client, f"{host_image.NAME}:latest")
    assert image is not None
    flags = host_image.probe(docker_client, image, lab.state_dir).arguments()
    flags |= {"command": ["sleep", "infinity"], "volumes": ["/var/lib/docker", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]}
    container = docker_client.containers.run(
        image, **flags | {"cgroupns": "host"}, detach=True, network=lab.name, labels=lab.labels
    )
    reached = {"ansible_connection": "community.docker.docker", "ansible_user": "root", "ansible_become": False}
    host = Host(container.name, container.name, tmp_path, reached)
    wanted = {"docker_engine_insecure_registries": ["198.18.77.5:5000"]}
    try:
        applied = host.apply("docker_engine", **wanted)
        assert "start it by hand as root, then run this again: nohup dockerd" in applied.message
        container.exec_run(["bash", "-c", "nohup dockerd >/var/log/dockerd.log 2>&1"], detach=True)
        host.shell("timeout 60 bash -c 'until docker version >/dev/null 2>&1; do sleep 0.1; done'")
        applied = host.apply("docker_engine", **wanted)
        assert applied.succeeded, applied.message
        assert host.shell("docker info --format '{{json .RegistryConfig.IndexConfigs}}'").count("198.18.77.5:5000") == 2
        before = host.shell(f"cat {SETTINGS}")
        applied = host.apply("docker_engine", docker_engine_settings={"log-driver": "local"})
        assert "systemd is not PID 1 here to do it; nothing was written" in applied.message
        assert host.shell(f"cat {SETTINGS}") == before
    finally:
        container.remove(force=True, v=True)
