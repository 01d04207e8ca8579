"""A node whose device was iWARP has the vendor's driver, a RoCE device, and an image that can use it."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

DEVICE = "/srv/node/sys/class/infiniband/erdma_0"


def test_the_device_is_roce_and_active(host: Any) -> None:
    assert host.file(f"{DEVICE}/node_type").content_string == "1: CA\n"
    assert host.file(f"{DEVICE}/ports/1/state").content_string == "4: ACTIVE\n"


@pytest.mark.parametrize("name", ["erdma", "libibverbs1", "ibverbs-providers", "ibverbs-utils", "librdmacm1"])
def test_the_packages_are_the_vendors(host: Any, name: str) -> None:
    assert host.package(name).version == "99.0-1"


def test_the_mode_survives_a_boot(host: Any) -> None:
    assert host.file("/etc/modprobe.d/disagg-e2e-erdma.conf").content_string == "options erdma compat_mode=Y\n"
    assert host.file("/etc/modules-load.d/disagg-e2e-erdma.conf").content_string == "ib_uverbs\nrdma_ucm\nerdma\n"


def test_the_key_is_trusted_for_this_repository_alone(host: Any) -> None:
    sources = host.file("/etc/apt/sources.list.d/disagg-e2e-erdma.sources").content_string
    assert "Signed-By: /etc/apt/keyrings/disagg-e2e-erdma.gpg" in sources.splitlines()
    assert "URIs: http://127.0.0.1:8077/apt/debian" in sources.splitlines()
    assert "Suites: bookworm/erdma" in sources.splitlines()
    assert host.run("ls /etc/apt/trusted.gpg.d | grep -i erdma").rc != 0
    told = host.check_output("gpg --show-keys --with-colons /etc/apt/keyrings/disagg-e2e-erdma.gpg")
    assert host.file("/srv/erdma/fingerprint").content_string in told


def test_the_image_has_the_vendors_libraries_and_nothing_of_the_build(host: Any) -> None:
    images = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' disagg-e2e/erdma").split()
    assert len(images) == 2, "the one that was asked for, made once, and the one without ibv_devinfo"
    image = next(image for image in images if host.run(f"docker run --rm {image} which ibv_devinfo").rc == 0)
    versions = host.check_output(f"docker run --rm {image} dpkg-query -W -f '${{Version}}\\n' libibverbs1 librdmacm1")
    assert versions.split() == ["99.0-1", "99.0-1"]
    assert host.run(f"docker run --rm {image} ls /usr/src/erdma-99.0").rc != 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "image registry.invalid/none:1 is not on the node; role image pulls it"),
        (
            "system",
            "the image is Debian GNU/Linux 12 (trixie); the vendor has packages for jammy, noble, bookworm; check",
        ),
        ("libraries", "erdma_0 is active on the node, but ibv_devinfo in an image with the vendor's libraries says"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused(host: Any, name: str, said: str) -> None:
    words = host.file(f"/srv/refusals/{name}").content_string
    assert words.startswith("erdma: ")
    assert said in words
    assert "\n" not in words
