"""This machine's Docker engine: reached, or one line that says what is missing."""

from __future__ import annotations

import os

import docker
from docker import DockerClient
from docker.errors import DockerException

from pyharness.errors import UsageError

# Seconds that one answer of the engine may take. A build or a push answers in a stream, each piece in this time.
_TIMEOUT = 300


def connect() -> DockerClient:
    """Return a client of the Docker engine that DOCKER_HOST names, or of this machine's.

    Raises:
        UsageError: there is none, or this user may not use it.
    """
    try:
        client = docker.from_env(timeout=_TIMEOUT)
        client.ping()
    except DockerException as error:
        raise UsageError(_explain(error)) from error
    return client


def _explain(error: DockerException) -> str:
    where = os.environ.get("DOCKER_HOST", "/var/run/docker.sock")
    words = str(error)
    if "Permission denied" in words:
        return f"{where}: this user may not use the Docker engine; add it to group docker, or run as root"
    if "No such file" in words or "Connection refused" in words:
        return (
            f"{where}: no Docker engine answers; start one, for example with: .ci/docker-engine start (as root;"
            " installs docker.io where it is missing)"
        )
    return f"{where}: the Docker engine cannot be used: {words}"
