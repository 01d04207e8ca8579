"""Where no device can carry data the role says so in one line, and leaves what it has to leave."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

KEYRING = "/etc/apt/keyrings/disagg-e2e-erdma.gpg"
SOURCES = "/etc/apt/sources.list.d/disagg-e2e-erdma.sources"
DRIVER = "/var/lib/dpkg/info/erdma.list"


def refusal(host: Any, name: str) -> tuple[str, list[str]]:
    """Return what the role said, which has to be one line, and what it left on the node."""
    kept = json.loads(host.file(f"/srv/refusals/{name}.json").content_string)
    assert "\n" not in kept["words"]
    return kept["words"], kept["left"]


def test_another_key_is_refused_and_nothing_installed(host: Any) -> None:
    words, left = refusal(host, "other-key")
    fingerprint = host.file("/srv/erdma/fingerprint").content_string
    assert (
        f"has the fingerprint {fingerprint}, not 0123456789ABCDEF0123456789ABCDEF01234567: it is not trusted" in words
    )
    assert left == []


def test_missing_headers_are_named_with_the_kernel(host: Any) -> None:
    words, left = refusal(host, "no-headers")
    kernel = host.check_output("uname -r")
    assert words.startswith(
        "erdma-alternative: the driver has to be built for the running kernel, and no package source"
    )
    assert f"has linux-headers-{kernel}; boot a kernel" in words
    assert left == [KEYRING]


def test_a_repository_that_is_not_there_does_not_stay_in_apts_way(host: Any) -> None:
    words, left = refusal(host, "no-repository")
    assert words.startswith("erdma-alternative: cannot install ")
    assert "http://127.0.0.1:8077/nowhere" in words
    assert left == [KEYRING]


def test_a_driver_that_cannot_be_loaded_is_told_in_modprobes_words(host: Any) -> None:
    words, _left = refusal(host, "no-driver")
    assert words.startswith(
        "erdma-alternative: the erdma driver cannot be loaded: modprobe: FATAL: Module erdma not found"
    )
    assert "dkms status erdma" in words


def test_a_system_without_packages_is_named(host: Any) -> None:
    words, _left = refusal(host, "no-system")
    assert "the driver can be installed on jammy, noble, bookworm, and this is Debian trixie" in words


def test_a_driver_that_cannot_be_built_leads_to_its_log(host: Any) -> None:
    words, left = refusal(host, "no-build")
    assert words.startswith("erdma-alternative: the driver could not be built for the running kernel: ")
    assert words.endswith("see /var/lib/dkms/erdma/*/build/make.log")
    assert SOURCES not in left


def test_a_loaded_module_is_not_accepted(host: Any) -> None:
    words, left = refusal(host, "no-device")
    assert words.startswith("erdma-alternative: the kernel module erdma is loaded, but no RDMA device appeared")
    assert words.endswith(
        "attach a network interface with eRDMA (ERI) to the instance; lspci -d 1ded:107f has to list it"
    )
    assert left == [KEYRING, SOURCES, DRIVER]


def test_a_driver_in_use_is_left_alone(host: Any) -> None:
    words, _left = refusal(host, "in-use")
    assert words.startswith(
        "erdma-alternative: the erdma driver has to be loaded anew with compat_mode=Y and cannot be unloaded"
    )
    assert "Module erdma is in use" in words
    assert host.file("/srv/node/sys/class/infiniband/erdma_0/node_type").content_string == "4: RNIC\n"


def test_iwarp_is_refused_without_changing_anything(host: Any) -> None:
    words, _left = refusal(host, "validate")
    assert words.startswith(
        "erdma-alternative: erdma_0 is iWARP (node type 4: RNIC), not RoCE; load its driver with compat_mode=Y"
    )
