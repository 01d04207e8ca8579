"""Say what a Docker engine's error about an image means, and whether trying again can help."""

from __future__ import annotations

DOCUMENTATION = r"""
name: docker_error
short_description: Say what a Docker engine's error about an image means
description:
  - Knows the texts of Docker 20.10 to 29, with Docker's own image store and with containerd's, as the modules of
    community.docker hand them on.
  - A text that it does not know is of the kind V(unknown) and is worth another try, since most of what passes has no
    text of its own.
positional: _input, image
options:
  _input:
    description: The error's text.
    type: str
    required: true
  image:
    description: The image's reference, as it was asked for.
    type: str
    required: true
  secrets:
    description: Texts that must not show in the result.
    type: list
    elements: str
    default: []
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Say it in one line
  ansible.builtin.fail:
    msg: "{{ inventory_hostname }}: {{ error.cause }}; {{ error.remedy }}"
  vars:
    error: "{{ pulled.msg | disagg.e2e.docker_error('registry.example:5000/team/engine:1') }}"
"""

RETURN = r"""
_value:
  description: >-
    C(kind) (no_such_image, no_access, no_network, plain_http, tls_untrusted, digest_mismatch, rate_limited,
    registry_error, no_space, invalid_reference, no_docker or unknown), C(cause) and C(remedy), each to be read by a
    person, C(detail) (the engine's own words) and C(retry), whether the same may work a little later.
  type: dict
"""

import re
from typing import Any, NamedTuple

from ansible.errors import AnsibleFilterError


class _Kind(NamedTuple):
    name: str
    pattern: str
    cause: str
    remedy: str
    retry: bool = False


# The first that matches counts. What is certain stands before what its text may contain: an engine that cannot
# resolve a reference says so for each of these reasons.
_KINDS = (
    _Kind(
        "no_docker",
        r"Error connecting: |Cannot connect to the Docker daemon|Error while fetching server API version"
        r"|Failed to import the required Python library",
        "the Docker engine of the node cannot be asked",
        "run the role docker_engine first, or look at: journalctl -u docker",
    ),
    _Kind(
        "invalid_reference",
        r"invalid reference format|is not a valid docker tag|must be lowercase|invalid repository name",
        "{image} is not a valid image reference",
        "write it as [registry/]name:tag or [registry/]name@sha256:digest, name in lower case",
    ),
    _Kind(
        "no_space",
        r"no space left on device",
        "the node's disk is full",
        "make room where Docker keeps its images (docker info names the Docker Root Dir), or move its data-root",
    ),
    _Kind(
        "plain_http",
        r"server gave HTTP response to HTTPS client|first record does not look like a TLS handshake",
        "the registry {registry} speaks plain HTTP and the engine asks for HTTPS",
        "add {registry} to docker_engine_insecure_registries, or give the registry a certificate",
    ),
    _Kind(
        "tls_untrusted",
        r"x509: |certificate signed by unknown authority|tls: failed to verify certificate|bad certificate",
        "the certificate of the registry {registry} is not trusted by the node",
        "put its CA's certificate at /etc/docker/certs.d/{registry}/ca.crt on the node",
    ),
    _Kind(
        "digest_mismatch",
        r"verification failed for digest|unexpected commit digest|does not match (provided )?digest|digest mismatch",
        "the registry {registry} served something else than the digest of {image} says",
        "do not use it: have the image pushed again, and look at what stands between node and registry",
    ),
    _Kind(
        "rate_limited",
        r"toomanyrequests|429 Too Many Requests|pull rate limit",
        "the registry {registry} limits how often this node may pull",
        "log in (image_registry_username), use a mirror (docker_engine_registry_mirrors), or wait",
        retry=True,
    ),
    _Kind(
        "no_access",
        r"no basic auth credentials|unauthorized|authentication required|pull access denied|denied:"
        r"|insufficient_scope|40[13] (Unauthorized|Forbidden)|incorrect username or password",
        "the registry {registry} gives no access to {image} (some answer so as well when there is no such image)",
        "set image_registry_username and image_registry_password to an account that may pull it, and check the name",
    ),
    _Kind(
        "no_such_image",
        r"manifest unknown|manifest for \S+ not found|repository \S+ not found|name unknown"
        r"|repository does not exist|: not found|no matching manifest",
        "the registry {registry} has no image {image}",
        "check name, tag or digest and the node's platform; the registry lists its tags at /v2/<name>/tags/list",
    ),
    _Kind(
        "no_network",
        r"no such host|server misbehaving|connection refused|connection reset|network is unreachable|no route to host"
        r"|i/o timeout|Client\.Timeout exceeded|context deadline exceeded|TLS handshake timeout|broken pipe"
        r"|failure in name resolution|unexpected EOF|proxyconnect",
        "the node does not reach the registry {registry}",
        "check the name, the port, the proxy and the firewall from the node: curl -sv http(s)://{registry}/v2/",
        retry=True,
    ),
    _Kind(
        "registry_error",
        r"received unexpected HTTP status: 5\d\d|unexpected status .*5\d\d|50[0234] (Internal|Bad|Service|Gateway)",
        "the registry {registry} fails",
        "look at the registry's own log",
        retry=True,
    ),
)
_UNKNOWN = _Kind("unknown", "", "the Docker engine could not pull {image}", "look at: journalctl -u docker", retry=True)


def _registry(image: str) -> str:
    """Return the registry of a reference: what stands before the first slash, if it can be a host."""
    head, slash, _rest = image.partition("/")
    is_host = slash and ("." in head or ":" in head or head == "localhost")
    return head if is_host else "docker.io"


def _detail(text: str) -> str:
    """Return the engine's own words: community.docker puts them in brackets, behind the request's address."""
    quoted = re.search(r'(?:Client|Server) Error for .*?: [A-Za-z ]+ \("(.*)"\)\s*$', text, re.DOTALL)
    return " ".join((quoted.group(1) if quoted else text).split())


def docker_error(text: object, image: str, secrets: list[str] | None = None) -> dict[str, Any]:
    """Classify an error of pulling an image or of logging in to its registry.

    Args:
        text: The message of community.docker's docker_image_pull or docker_login.
        image: The reference that was asked for.
        secrets: Texts to leave out of the result.

    Returns:
        kind, cause, remedy, detail and retry, as RETURN says.

    Raises:
        AnsibleFilterError: `text` is no text.
    """
    if not isinstance(text, str):
        raise AnsibleFilterError(f"docker_error: a text is needed, not {type(text).__name__}")
    detail = _detail(text)
    for secret in secrets or ():
        if secret:
            detail = detail.replace(secret, "********")
    kind = next((kind for kind in _KINDS if re.search(kind.pattern, detail, re.IGNORECASE)), _UNKNOWN)
    words = {"image": image, "registry": _registry(image)}
    return {
        "kind": kind.name,
        "cause": kind.cause.format(**words),
        "remedy": kind.remedy.format(**words),
        "detail": detail,
        "retry": kind.retry,
    }


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"docker_error": docker_error}
