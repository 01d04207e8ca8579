"""NVIDIA GPUs of a machine as nvidia-smi tells them, and who holds their memory.

Standard library only. Source of the fields and exit codes: nvidia-smi(1), `nvidia-smi --help-query-gpu`,
`--help-query-compute-apps`. A process belongs to a container by its cgroup: /docker/<id> with the cgroupfs driver,
docker-<id>.scope with systemd's, in both hierarchies (Docker's documentation, "Runtime metrics", section "Find the
cgroup for a given container").
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

_SMI_SECONDS = 60
_GPU_FIELDS = ("index", "uuid", "name", "memory.total", "memory.used", "driver_version")
_APP_FIELDS = ("gpu_uuid", "pid", "used_memory")
_CONTAINER = re.compile(r"(?:docker[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)
# What nvidia-smi says when it fails, and what helps.
_REMEDIES = (
    ("version mismatch", "the driver was updated while the old one was loaded: reboot the node"),
    (
        "couldn't communicate",
        "load the driver (modprobe nvidia), or install it for the running kernel; dkms status tells",
    ),
    ("No devices", "no GPU is visible: see lspci and dmesg, reboot the node"),
    ("Insufficient Permissions", "run as root"),
)


class GpuError(Exception):
    """The GPUs cannot be asked; the text says why and what to do."""


def _smi(program: str, *arguments: str) -> str:
    """Run nvidia-smi. It writes its errors to standard output."""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=_SMI_SECONDS
        )
    except FileNotFoundError as error:
        raise GpuError(f"{program} is not there; install the NVIDIA driver, or correct gpu_nvidia_smi") from error
    except PermissionError as error:
        raise GpuError(f"{program} cannot be run: {error}; correct gpu_nvidia_smi") from error
    except subprocess.TimeoutExpired as error:
        raise GpuError(f"{program} does not answer within {_SMI_SECONDS} s; see dmesg for NVRM: Xid, reboot") from error
    if done.returncode != 0:
        words = " ".join(f"{done.stdout} {done.stderr}".split())[:400]
        remedy = next((text for sign, text in _REMEDIES if sign in words), "run it by hand on the node, and see dmesg")
        raise GpuError(f"{program} ended with status {done.returncode}: {words or 'no word'}; {remedy}")
    return done.stdout


def _number(text: str) -> int | None:
    """Read a figure; nvidia-smi says [N/A] or [Insufficient Permissions] in place of one."""
    return int(text) if re.fullmatch(r"\d+", text) else None


def _rows(output: str, fields: tuple[str, ...]) -> list[list[str]]:
    """Split lines of CSV. A GPU's name may hold anything but a comma."""
    rows = [[value.strip() for value in line.split(",")] for line in output.splitlines() if line.strip()]
    for row in rows:
        if len(row) != len(fields):
            raise GpuError(
                f"nvidia-smi answered {', '.join(row)!r} when asked for {', '.join(fields)}; is it another one?"
            )
    return rows


def inventory(program: str = "nvidia-smi") -> dict[str, Any]:
    """Describe the GPUs of this machine and the processes that compute on them.

    Args:
        program: nvidia-smi, as a name on PATH or as a path.

    Returns:
        driver (version), cuda (the newest version that the driver serves; None if it does not say), gpus: for each
        index, uuid, name, memory_total_mib, memory_used_mib, processes (pid, used_mib; used_mib None if not told).

    Raises:
        GpuError: there is no nvidia-smi, or it fails.
    """
    answer = _smi(program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits")
    gpus: list[dict[str, Any]] = []
    driver = None
    for index, uuid, name, total, used, version in _rows(answer, _GPU_FIELDS):
        driver = version
        gpus.append(
            {
                "index": int(index),
                "uuid": uuid,
                "name": name,
                "memory_total_mib": _number(total),
                "memory_used_mib": _number(used),
                "processes": [],
            }
        )
    by_uuid = {gpu["uuid"]: gpu for gpu in gpus}
    answer = _smi(program, f"--query-compute-apps={','.join(_APP_FIELDS)}", "--format=csv,noheader,nounits")
    for uuid, pid, used in _rows(answer, _APP_FIELDS):
        if uuid not in by_uuid:
            raise GpuError(f"nvidia-smi names a process on {uuid}, which it does not list; see dmesg for NVRM: Xid")
        by_uuid[uuid]["processes"].append({"pid": int(pid), "used_mib": _number(used)})
    cuda = re.search(r"CUDA Version\s*:\s*([\d.]+)", _smi(program))
    return {"driver": driver, "cuda": cuda[1] if cuda else None, "gpus": gpus}


def chosen(gpus: list[dict[str, Any]], indices: list[int]) -> list[dict[str, Any]]:
    """Return the GPUs that count; all when no index is named.

    Raises:
        GpuError: an index is not there, or there is no GPU.
    """
    there = {gpu["index"]: gpu for gpu in gpus}
    absent = [index for index in indices if index not in there]
    if absent or not gpus:
        have = ", ".join(str(index) for index in there) or "none"
        wanted = ", ".join(str(index) for index in absent) or "at least one"
        raise GpuError(f"GPU {wanted} is not there (there are: {have}); correct the indices, or see nvidia-smi -L")
    return [there[index] for index in indices] if indices else gpus


def container_of(pid: int, proc: str = "/proc") -> str | None:
    """Return the id of the Docker container that a process is in; None if it is in none, or gone.

    Where containers are nested, the innermost: that is the one that an engine on this machine started.
    """
    try:
        text = (Path(proc) / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    found = _CONTAINER.findall(text)
    return str(found[-1]) if found else None


def describe(pid: int, proc: str = "/proc") -> dict[str, Any]:
    """Describe a process for a person: pid, user, command, container (id or None). Unknown is None."""
    folder = Path("/proc") / str(pid)
    user = command = None
    try:
        owner = folder.stat().st_uid
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip() or None
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        user = str(owner)
    except OSError:
        pass
    return {"pid": pid, "user": user, "command": command, "container": container_of(pid, proc)}


def end_if_in(pid: int, containers: set[str], proc: str = "/proc") -> bool:
    """Kill a process if it is in one of some containers.

    Its number cannot go over to another process between the look and the signal: both go by one descriptor.

    Args:
        pid: the process.
        containers: ids of the containers whose processes may be ended.
        proc: where the cgroup is read.

    Returns:
        whether it was sent SIGKILL.

    Raises:
        PermissionError: the caller may not.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if container_of(pid, proc) not in containers:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
