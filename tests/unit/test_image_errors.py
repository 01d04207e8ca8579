"""What the engine says when an image cannot be had is told apart.

test_image_messages.json holds what community.docker 4.8.5 reported of Docker 20.10.24 and 26.1.5, the latter with
Docker's own image store and with containerd's, for registries that refuse, ask for a password, limit, serve the wrong
bytes, speak plain HTTP, or are not there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.disagg.e2e.plugins.filter.docker_error import FilterModule, docker_error

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

IMAGE = "registry.example:5000/test/tiny:1"
MESSAGES = json.loads(Path(__file__).with_name("test_image_messages.json").read_text())
RETRIED = {"no_network", "rate_limited", "registry_error", "unknown"}
NOT_RETRIED = {
    "digest_mismatch", "invalid_reference", "no_access", "no_docker", "no_space", "no_such_image", "plain_http",
    "tls_untrusted",
}  # fmt: skip


@pytest.mark.parametrize("recorded", MESSAGES, ids=[f"{one['kind']}-{n}" for n, one in enumerate(MESSAGES)])
def test_a_recorded_message_is_of_its_kind(recorded: dict[str, str]) -> None:
    found = docker_error(recorded["message"], IMAGE)
    assert found["kind"] == recorded["kind"], f"Docker {recorded['docker']}"
    assert found["retry"] is (recorded["kind"] in RETRIED)
    assert "\n" not in "".join(str(value) for value in found.values())


# What these need was not at hand: Docker Hub, a newer engine, a firewall that drops, a full disk. The texts are those
# that users of such report, and containerd's and Go's own.
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('failed to resolve reference "docker.io/a/b:0": docker.io/a/b:0: not found', "no_such_image"),
        ('failed to resolve reference "docker.io/a/b:0": not found', "no_such_image"),
        ("unexpected status from HEAD request to https://r/v2/a/manifests/1: 403 Forbidden", "no_access"),
        ("unexpected status from HEAD request to https://r/v2/a/manifests/1: 429 Too Many Requests", "rate_limited"),
        ("unexpected status from HEAD request to https://r/v2/a/manifests/1: 502 Bad Gateway", "registry_error"),
        (
            "pull access denied for a/b, repository does not exist or may require 'docker login': denied: ...",
            "no_access",
        ),
        (
            'Head "https://r/v2/a/manifests/1": read tcp 192.0.2.1:4233->192.0.2.5:443: read: connection reset by peer',
            "no_network",
        ),
        (
            'Get "https://r/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
            "no_network",
        ),
        ('Get "https://r/v2/": context deadline exceeded', "no_network"),
        ('Get "https://r/v2/": net/http: TLS handshake timeout', "no_network"),
        ('Get "https://r/v2/": dial tcp 192.0.2.1:443: i/o timeout', "no_network"),
        ("failed to register layer: write /usr/lib/libx.so: no space left on device", "no_space"),
        (
            "Error connecting: Error while fetching server API version: ('Connection aborted.', FileNotFoundError(2))",
            "no_docker",
        ),
        ("Failed to import the required Python library (requests) on node's Python /usr/bin/python3.", "no_docker"),
        ("something that nobody has seen", "unknown"),
    ],
)
def test_a_reported_message_is_of_its_kind(message: str, kind: str) -> None:
    found = docker_error(message, IMAGE)
    assert (found["kind"], found["retry"]) == (kind, kind in RETRIED)


def test_every_kind_has_been_seen_and_says_what_to_do() -> None:
    recorded = {one["kind"]: docker_error(one["message"], IMAGE) for one in MESSAGES}
    assert set(recorded) == (RETRIED | NOT_RETRIED) - {"no_docker", "no_space", "unknown"}
    assert len({one["cause"] for one in recorded.values()}) == len(recorded)
    assert len({one["remedy"] for one in recorded.values()}) == len(recorded)


def test_the_engines_own_words_are_what_is_left() -> None:
    message = next(one["message"] for one in MESSAGES if one["kind"] == "no_access")
    assert docker_error(message, IMAGE)["detail"] == (
        'Head "http://127.0.0.1:5092/v2/test/tiny/manifests/1": no basic auth credentials'
    )


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        (IMAGE, "registry.example:5000"),
        ("localhost/a:1", "localhost"),
        ("debian:12", "docker.io"),
        ("lmsysorg/sglang:v0.5", "docker.io"),
        ("ghcr.io/a/b@sha256:00", "ghcr.io"),
    ],
)
def test_the_registry_is_named(image: str, registry: str) -> None:
    text = "http: server gave HTTP response to HTTPS client"
    assert docker_error(text, image)["remedy"].startswith(f"add {registry} to docker_engine_insecure_registries")


def test_a_secret_does_not_come_through() -> None:
    found = docker_error("login with p4ss+w0rd failed: 401 Unauthorized", IMAGE, secrets=["p4ss+w0rd", ""])
    assert found["detail"] == "login with ******** failed: 401 Unauthorized"


@pytest.mark.parametrize("wrong", [None, {"msg": "text"}, 7])
def test_what_is_no_text_is_refused(wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="a text is needed"):
        docker_error(wrong, IMAGE)


def test_ansible_finds_it_by_its_name() -> None:
    assert FilterModule().filters() == {"docker_error": docker_error}
