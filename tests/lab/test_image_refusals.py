"""Each way in which an image cannot be had has its own words, and no password is ever among them."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.role_runner import Host, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from pyharness.lab.model import Lab

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

RIGHT = "right-for-molecule"
WRONG = "planted-and-not-right"
NO_SUCH_DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def host(docker_client: DockerClient, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return a host with registries that each have a defect (registries.yml)."""
    with started(docker_client, lab, 160, tmp_path_factory.mktemp("image")) as made:
        prepared = made.play(Path(__file__).with_name("registries.yml"))
        assert prepared.succeeded, prepared.output[-3000:]
        yield made


@pytest.fixture(scope="module")
def digest(host: Host) -> str:
    """Return the digest that the registries have."""
    manifests = "/var/lib/docker-registry/docker/registry/v2/repositories/test/secret/_manifests"
    return host.shell(f"cat {manifests}/tags/1/current/link")


@pytest.mark.parametrize(
    ("image", "kind", "remedy"),
    [
        ("127.0.0.1:5009/test/secret:1", "no_network", "check the name, the port, the proxy and the firewall"),
        ("registry.invalid/test/secret:1", "no_network", "check the name, the port, the proxy and the firewall"),
        ("127.0.0.1:5001/test/nothing:1", "no_such_image", "check name, tag or digest"),
        ("127.0.0.1:5001/test/secret:2", "no_such_image", "check name, tag or digest"),
        (f"127.0.0.1:5001/test/secret@{NO_SUCH_DIGEST}", "no_such_image", "check name, tag or digest"),
        ("127.0.0.1:5000/test/secret:1", "no_access", "set image_registry_username and image_registry_password"),
        ("{address}:5001/test/secret:1", "plain_http", "add {address}:5001 to docker_engine_insecure_registries"),
        (
            "{address}:5002/test/secret:1",
            "tls_untrusted",
            "put its CA's certificate at /etc/docker/certs.d/{address}:5002",
        ),
        ("127.0.0.1:5003/test/secret@{digest}", "digest_mismatch", "do not use it"),
    ],
)
def test_an_image_that_cannot_be_had_is_refused_in_one_line(
    host: Host, digest: str, image: str, kind: str, remedy: str
) -> None:
    words = {"address": host.address, "digest": digest}
    image, remedy = image.format(**words), remedy.format(**words)
    applied = host.apply("image", image_ref=image, image_retries=0)
    assert not applied.succeeded
    assert applied.message.startswith(f"{host.name}: {kind}: ")
    assert remedy in applied.message
    assert "\n" not in applied.message


def test_a_wrong_password_is_refused_and_shown_nowhere(host: Host) -> None:
    applied = host.apply(
        "image",
        image_ref="127.0.0.1:5000/test/secret:1",
        image_registry_username="somebody",
        image_registry_password=WRONG,
        image_retries=0,
    )
    assert not applied.succeeded
    assert applied.message.startswith(f"{host.name}: no_access: ")
    assert "asked as somebody" in applied.message
    assert WRONG not in applied.output
    assert base64.b64encode(f"somebody:{WRONG}".encode()).decode() not in applied.output
    assert host.shell(f"grep -rlF {WRONG} /run /root /etc /tmp /var/log /var/tmp /home || true") == ""
    assert host.shell(f"journalctl --no-pager | grep -cF {WRONG} || true") == "0"
    assert host.shell("find /run -maxdepth 1 -name 'disagg-e2e-login-*'") == ""


def test_a_right_password_is_shown_nowhere_either(host: Host) -> None:
    applied = host.apply(
        "image",
        image_ref="127.0.0.1:5000/test/secret:1",
        image_registry_username="somebody",
        image_registry_password=RIGHT,
    )
    assert applied.succeeded, applied.message
    assert RIGHT not in applied.output
    assert host.shell("find /run -maxdepth 1 -name 'disagg-e2e-login-*'") == ""


def test_what_may_pass_is_tried_again_with_growing_pauses(host: Host) -> None:
    before = time.monotonic()
    applied = host.apply("image", image_ref="127.0.0.1:5009/test/secret:1", image_retries=2, image_backoff_seconds=1)
    assert time.monotonic() - before >= 1 + 2
    assert "no_network" in applied.message
    assert "try 3 of 3" in applied.message


def test_what_will_not_pass_is_tried_once(host: Host) -> None:
    applied = host.apply("image", image_ref="127.0.0.1:5001/test/nothing:1", image_retries=3, image_backoff_seconds=600)
    assert "try 1 of 1" in applied.message


def test_a_registry_that_comes_up_meanwhile_gives_the_image(host: Host) -> None:
    refused = "journalctl -u docker | grep -q 127.0.0.1:5004.*refused"
    serve = f"until {refused}; do sleep 0.2; done; exec docker-registry serve /srv/late.yml"
    host.shell(f"systemd-run --unit=late bash -c '{serve}'")
    applied = host.apply("image", image_ref="127.0.0.1:5004/test/secret:1", image_retries=5, image_backoff_seconds=2)
    assert applied.succeeded, applied.message
    assert '"elapsed": ' in applied.output  # of the pause


def test_an_image_that_is_there_needs_no_registry(host: Host, digest: str) -> None:
    host.apply("image", image_ref=f"127.0.0.1:5001/test/secret@{digest}")
    host.shell("systemctl stop registry-plain")
    try:
        applied = host.apply("image", image_ref=f"127.0.0.1:5001/test/secret@{digest}", image_retries=0)
    finally:
        host.shell("systemd-run --unit=registry-plain-again docker-registry serve /srv/plain.yml")
    assert applied.succeeded, applied.message
    assert '"changed": true' not in applied.output


@pytest.mark.parametrize("image", ["http://127.0.0.1:5001/test/secret:1", "test/secret@sha256:12", "two words"])
def test_a_reference_that_is_none_is_refused_before_anything_is_asked(host: Host, image: str) -> None:
    applied = host.apply("image", image_ref=image)
    assert not applied.succeeded
    assert "is not a valid image reference" in applied.message
