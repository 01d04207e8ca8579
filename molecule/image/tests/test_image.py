"""A host has the image of a registry, and is logged in nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

IMAGE = "198.18.77.5:5000/test/molecule-image"


def test_the_image_is_the_one_that_the_registry_has(host: Any) -> None:
    address = "http://198.18.77.5:5000/v2/test/molecule-image/manifests/1"
    accepted = "application/vnd.docker.distribution.manifest.v2+json"
    script = (
        f"import urllib.request as u; r = u.Request({address!r}, headers={{'Accept': {accepted!r}}}, method='HEAD');"
        "print(u.urlopen(r).headers['Docker-Content-Digest'])"
    )
    served = host.check_output("python3 -c %s", script)
    found = json.loads(host.check_output(f"docker image inspect {IMAGE}:1"))[0]
    assert found["RepoDigests"] == [f"{IMAGE}@{served}"]


def test_nobody_is_logged_in(host: Any) -> None:
    assert not host.file("/root/.docker/config.json").exists
    assert host.check_output("find /run -maxdepth 1 -name 'disagg-e2e-login-*'") == ""
