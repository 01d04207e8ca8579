"""What a machine is and has: system, memory, disks, limits, its Docker engine, and whom it reaches.

Standard library only, and changes nothing. What runs on the machine is node_state.py's.
"""

from __future__ import annotations

import configparser
import http.client
import importlib
import os
import platform
import resource
import shutil
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.disagg.e2e.plugins.module_utils import docker_engine

# Bit of the capability that lifts the limit on locked memory: include/uapi/linux/capability.h of the Linux kernel.
_CAP_IPC_LOCK = 14
_ENDPOINT_SECONDS = 5.0
_SYSTEM_PIP_CONFIGURATIONS = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf")


def operating_system(root: str = "/") -> dict[str, str]:
    """Return id, version and name of the system as os-release(5) has them; empty texts where it says nothing."""
    values: dict[str, str] = {}
    for place in ("etc/os-release", "usr/lib/os-release"):
        try:
            lines = Path(root, place).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, separator, value = line.strip().partition("=")
            if separator and not key.startswith("#"):
                values[key] = value.strip("\"'")
        break
    return {
        "id": values.get("ID", ""),
        "version": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME", ""),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def memory() -> dict[str, int]:
    """Return the memory in bytes: total, and available (to be had without swapping)."""
    found = {"MemTotal": 0, "MemAvailable": 0}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _separator, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0]) * 1024
    return {"total_bytes": found["MemTotal"], "available_bytes": found["MemAvailable"]}


def disk(path: str) -> dict[str, Any]:
    """Describe the file system that `path` is, or would be, on.

    Returns:
        exists; writable (by this user, of the path itself or of the nearest parent that exists); free_bytes and
        total_bytes.
    """
    existing = Path(path)
    while not existing.exists():
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    return {
        "exists": str(existing) == path or Path(path).exists(),
        "writable": os.access(existing, os.W_OK | os.X_OK),
        "free_bytes": usage.free,
        "total_bytes": usage.total,
    }


def locked_memory(status: str = "/proc/self/status") -> dict[str, Any]:
    """Return how much memory a process of this user may lock (RLIMIT_MEMLOCK).

    Args:
        status: the process's status file, see proc(5).

    Returns:
        soft_bytes and hard_bytes (None is unlimited), and exempt: a process with CAP_IPC_LOCK, such as root's,
        need not keep to them (see getrlimit(2)).
    """
    soft, hard = (None if limit == resource.RLIM_INFINITY else limit for limit in _memlock())
    effective = 0
    for line in Path(status).read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    return {"soft_bytes": soft, "hard_bytes": hard, "exempt": bool(effective >> _CAP_IPC_LOCK & 1)}


def _memlock() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)


def docker(image: str, path: str = "/var/run/docker.sock") -> dict[str, Any]:
    """Describe the Docker engine.

    Args:
        image: a reference; asked for if not empty.
        path: the engine's socket.

    Returns:
        installed (there is an engine's or a client's program), error (None, or why the engine does not answer),
        version, runtimes (their names), cdi_devices and has_image (None: not asked, or no answer).
    """
    result: dict[str, Any] = {
        "installed": any(shutil.which(name) for name in ("dockerd", "docker")),
        "error": None,
        "version": "",
        "runtimes": [],
        "cdi_devices": [],
        "has_image": None,
    }
    try:
        found = docker_engine.describe(path)
    except docker_engine.EngineError as error:
        return {**result, "error": str(error)}
    result.update({key: found[key] for key in ("version", "runtimes", "cdi_devices")})
    if image:
        try:
            docker_engine.get(path, f"/images/{urllib.parse.quote(image)}/json")
        except docker_engine.EngineError:
            result["has_image"] = False
        else:
            result["has_image"] = True
    return result


def package_index(environment: dict[str, str], home: str) -> str:
    """Return the address of the package index that pip asks here; empty where that is not known.

    Args:
        environment: the user's environment variables.
        home: the user's home directory.

    The places, the strongest first, are those of https://pip.pypa.io/en/stable/topics/configuration/
    """
    if environment.get("PIP_INDEX_URL"):
        return environment["PIP_INDEX_URL"]
    own = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    named = environment.get("PIP_CONFIG_FILE", "")
    for place in (named, f"{own}/pip/pip.conf", f"{home}/.pip/pip.conf", *_SYSTEM_PIP_CONFIGURATIONS):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(place)
        except configparser.Error:
            continue
        if parser.has_option("global", "index-url"):
            return parser.get("global", "index-url")
    return _default_index()


def _default_index() -> str:
    """Return the index that pip asks where nobody has said another; empty where pip is not there, or does not say."""
    try:
        return str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError):
        return ""


def without_secret(url: str) -> str:
    """Return an address without the user and the password that may stand in it."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def reach(urls: list[str]) -> list[dict[str, Any]]:
    """Ask several HTTP servers side by side.

    Args:
        urls: their addresses.

    Returns:
        for each: url (without secrets), status (of HTTP; any means that the server is there) and error (None, or why
        there was no answer).
    """
    if not urls:
        return []
    with ThreadPoolExecutor(max_workers=len(urls)) as pool:
        return list(pool.map(_reach, urls))


def _reach(url: str) -> dict[str, Any]:
    result: dict[str, Any] = {"url": without_secret(url), "status": None, "error": None}
    try:
        request = urllib.request.Request(without_secret(url), method="HEAD")  # noqa: S310 (the inventory's own)
        with urllib.request.urlopen(request, timeout=_ENDPOINT_SECONDS) as answer:  # noqa: S310
            result["status"] = answer.status
    except urllib.error.HTTPError as error:
        result["status"] = error.code
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        result["error"] = " ".join(str(reason).split()) or type(error).__name__
    return result
