#!/usr/bin/python
"""Ask a node what a person would ask it after a failure, and change nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_diagnosis
short_description: Ask a node what a person would ask it after a failure
description:
  - Runs the usual commands side by side (processes, memory, disks, sockets, network, kernel log, GPUs, RDMA devices,
    Docker, Python packages), each within its own time and each failing alone, and returns what they said.
  - A command that the node does not have, may not run or does not end is told in one line.
  - It only reads. What it returns may hold secrets, such as the environment of a container.
options:
  run:
    description: The run whose processes and containers are looked at more closely.
    type: str
    default: ""
  node:
    description: The node's name in the inventory; empty for those of every logical node of this machine.
    type: str
    default: ""
  python:
    description: Programs of Python environments whose packages are listed, besides those of the run's processes.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds that each command may take.
    type: float
    default: 10
  limit:
    description: Bytes that are kept of each output, from its begin and its end.
    type: int
    default: 262144
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See what the node says
  disagg.e2e.node_diagnosis: {run: manual, node: prefill}
  register: diagnosis
"""

RETURN = r"""
texts:
  description: What each question gave, by its name; the first line is the command.
  returned: always
  type: dict
missing:
  description: Questions whose command the node does not have.
  returned: always
  type: list
  elements: str
"""

import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import containers, node_state, text_limits

_ULIMITS = (
    'for pid in {pids}; do echo "== process $pid"; cat /proc/$pid/limits; done; '
    "echo '== a shell of this user'; ulimit -a"
)
_COLUMNS = "pid,ppid,user,stat,wchan:24,lstart,etimes,rss,nlwp,args"
_PACKAGES = (
    "import importlib.metadata as m, sys\n"
    "print(sys.version)\n"
    "print('\\n'.join(sorted({f\"{d.metadata['Name']}=={d.version}\" for d in m.distributions()}, key=str.lower)))"
)
_INFINIBAND = (
    "for file in $(find -L /sys/class/infiniband -maxdepth 5 -type f "
    r"\( -path '*/ports/*/state' -o -path '*/ports/*/phys_state' -o -path '*/ports/*/rate' "
    r"-o -path '*/ports/*/link_layer' -o -path '*counters/*' -o -name fw_ver -o -name node_guid \) "
    "2>/dev/null | sort); do "
    'echo "$file: $(cat "$file" 2>&1)"; done'
)
# How long a command that was killed may take to be gone. One that hangs in the kernel is left behind.
_GONE_SECONDS = 1.0
_MOST_PYTHONS = 4


def _questions(run: str, node: str, python: list[str]) -> dict[str, list[str]]:
    """Return what is asked: commands by name."""
    processes = node_state.run_processes(run, node or None) if run else []
    pids = [str(found["pid"]) for found in processes]
    asked = {
        "os-release": ["cat", "/etc/os-release"],
        "uname": ["uname", "-a"],
        "uptime": ["uptime"],
        "date": ["date", "--iso-8601=ns"],
        "cpus": ["lscpu"],
        "disks": ["df", "-hT"],
        "inodes": ["df", "-i"],
        "memory": ["free", "-m"],
        "meminfo": ["cat", "/proc/meminfo"],
        "processes-by-memory": ["sh", "-c", f"ps -ww -eo {_COLUMNS} --sort=-rss | head -n 60"],
        "sockets": ["ss", "-tanp"],
        "addresses": ["ip", "addr"],
        "links": ["ip", "-s", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "ulimits": ["sh", "-c", _ULIMITS.format(pids=" ".join(pids))],
        "dmesg": ["sh", "-c", "dmesg --ctime 2>&1 | tail -n 500"],
        "journal": ["journalctl", "--no-pager", "--lines=500"],
        "nvidia-smi": ["nvidia-smi"],
        "nvidia-smi-q": ["nvidia-smi", "-q"],
        "nvidia-topology": ["nvidia-smi", "topo", "-m"],
        "ibv_devinfo": ["ibv_devinfo", "-v"],
        "rdma-link": ["rdma", "link", "show"],
        "infiniband": ["sh", "-c", _INFINIBAND],
        "docker-ps": ["docker", "ps", "--all", "--no-trunc"],
        "docker-info": ["docker", "info"],
        "shared-memory": ["ls", "-la", "/dev/shm"],  # noqa: S108 (listed)
    }
    if pids:
        asked["processes-of-the-run"] = ["ps", "-ww", "-o", _COLUMNS, "-p", ",".join(pids)]
    found = containers.run_containers(run, node or None) if run else []
    if found:
        asked["docker-inspect"] = ["docker", "inspect", *(entry["id"] for entry in found)]
    for number, program in enumerate(_pythons(pids, python), 1):
        asked[f"python-packages-{number}"] = [program, "-c", _PACKAGES]
    return asked


def _pythons(pids: list[str], given: list[str]) -> list[str]:
    """Return the Pythons of an environment and of processes, by the names that they were started with."""
    result = list(given)
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                program = stream.read(4096).split(b"\0")[0].decode("utf-8", "replace")
        except OSError:
            continue
        if os.path.isabs(program) and os.path.basename(program).startswith("python"):
            result.append(program)
    return [program for program in dict.fromkeys(result) if os.access(program, os.X_OK)][:_MOST_PYTHONS]


def ask(command: list[str], seconds: float, limit: int) -> str:
    """Run a command, and return what it said after a line with the command.

    Args:
        command: program and arguments.
        seconds: how long it may take.
        limit: bytes of its output that are kept.
    """
    told = f"$ {' '.join(' '.join(command).split())[:300]}\n"
    if shutil.which(command[0]) is None:
        return f"{command[0]}: this node does not have the command\n"
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    # Its mark would make of it a process of the run.
    environment.pop(node_state.RUN_VARIABLE, None)
    started = time.monotonic()
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return f"{told}cannot be run: {error.strerror}\n"
    try:
        output, _none = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        output = _killed(child)
        return (
            told
            + f"did not end within {seconds:g} s\n"
            + text_limits.middle_out(output, limit).decode("utf-8", "replace")
        )
    text = text_limits.middle_out(output, limit).decode("utf-8", "replace")
    ended = f"exit status {child.returncode}, " if child.returncode else ""
    line_break = "" if text.endswith("\n") or not text else "\n"
    return f"{told}{text}{line_break}# {ended}{time.monotonic() - started:.2f} s\n"


def _killed(child: subprocess.Popen[bytes]) -> bytes:
    """End a command with all that it has started, and return what it has said so far."""
    with suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        return child.communicate(timeout=_GONE_SECONDS)[0]
    except subprocess.TimeoutExpired:
        return b""


def _side_by_side(asked: dict[str, list[str]], one: Callable[[list[str]], str], seconds: float) -> dict[str, str]:
    """Ask everything at once. What has no answer in time is told as such, and left alone."""
    answers: dict[str, str] = {}

    def answer(name: str) -> None:
        try:
            answers[name] = one(asked[name])
        except Exception as error:  # noqa: BLE001 (one question alone fails)
            answers[name] = f"$ {asked[name][0]}\n{type(error).__name__}: {error}\n"

    threads = [threading.Thread(target=answer, args=[name], daemon=True) for name in asked]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    known = dict(answers)
    return {name: known.get(name, f"$ {asked[name][0]}\nno answer within {seconds:g} s\n") for name in asked}


def main() -> None:
    """Run the module."""
    arguments: dict[str, dict[str, Any]] = {
        "run": {"type": "str", "default": ""},
        "node": {"type": "str", "default": ""},
        "python": {"type": "list", "elements": "path", "default": []},
        "timeout": {"type": "float", "default": 10},
        "limit": {"type": "int", "default": 256 * 1024},
    }
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    given = module.params
    seconds = given["timeout"]
    asked = _questions(given["run"], given["node"], given["python"])
    texts = _side_by_side(asked, lambda command: ask(command, seconds, given["limit"]), seconds + 2 * _GONE_SECONDS)
    missing = sorted(name for name, command in asked.items() if shutil.which(command[0]) is None)
    texts["node"] = f"{platform.node()} at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n"
    module.exit_json(changed=False, texts=texts, missing=missing)


if __name__ == "__main__":
    main()
