"""What a node's Docker engine says of itself, over its socket, with the standard library only.

A node may have neither the docker program nor Python's requests before the role docker_engine has run.
Source: Docker Engine API 1.41, /version, /info and /containers/json; https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from typing import Any

_TIMEOUT = 10.0


class EngineError(Exception):
    """The engine does not answer as an engine does; the text says what was seen."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(path: str, resource: str) -> Any:
    """Return what the engine behind the socket at `path` answers to GET `resource`.

    Raises:
        EngineError: nobody listens there, or the answer is no JSON of status 200.
    """
    connection = _Connection(path)
    try:
        connection.request("GET", resource)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise EngineError(f"{resource} answered {response.status}: {body[:200].decode('utf-8', 'replace')}")
        return json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineError(f"{path}: {error}") from error
    finally:
        connection.close()


def process_id(path: str) -> int:
    """Return the process that listens at `path`: the engine, or systemd where that opened the socket (unix(7)).

    Raises:
        EngineError: nobody listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError as error:
            raise EngineError(f"{path}: {error}") from error
    pid: int = struct.unpack("3i", raw)[0]
    return pid


def describe(path: str) -> dict[str, Any]:
    """Return the facts about an engine that decide whether it serves and whether it may be restarted.

    Args:
        path: Its socket.

    Returns:
        version, api_version, storage_driver, runtimes, registry_mirrors, insecure_registries, live_restore,
        cdi_devices, pid (see process_id), and containers (name and image of those that run).

    Raises:
        EngineError: it does not answer.
    """
    version, info = get(path, "/version"), get(path, "/info")
    registries = info.get("RegistryConfig") or {}
    hosts = registries.get("IndexConfigs") or {}
    insecure = {name for name, index in hosts.items() if not index.get("Secure", True)}
    return {
        "pid": process_id(path),
        "version": version["Version"],
        "api_version": version["ApiVersion"],
        "storage_driver": info["Driver"],
        "runtimes": sorted(info.get("Runtimes") or {}),
        "registry_mirrors": [mirror.rstrip("/") for mirror in registries.get("Mirrors") or []],
        "insecure_registries": sorted(insecure | set(registries.get("InsecureRegistryCIDRs") or [])),
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "cdi_devices": sorted(device["ID"] for device in info.get("DiscoveredDevices") or [] if "ID" in device),
        "containers": sorted(
            ({"name": one["Names"][0].lstrip("/"), "image": one["Image"]} for one in get(path, "/containers/json")),
            key=lambda one: str(one["name"]),
        ),
    }
