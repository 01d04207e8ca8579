"""Doubles of nvidia-smi and docker: small programs that print what the real ones would."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Two cards as `nvidia-smi --format=csv,noheader,nounits` lists them; the double fills in what is used.
CARDS = (
    "0, GPU-11111111-2222-3333-4444-555555555555, NVIDIA A10, 23028, {used0}, 535.161.08\n"
    "6, GPU-66666666-7777-8888-9999-000000000000, NVIDIA A10, 23028, {used6}, 535.161.08\n"
)
UUIDS = {0: "GPU-11111111-2222-3333-4444-555555555555", 6: "GPU-66666666-7777-8888-9999-000000000000"}
HEADER = "| NVIDIA-SMI 535.161.08             Driver Version: 535.161.08   CUDA Version: 12.2     |\n"

_SMI = """#!{python} -IS
import os, sys
held = {held!r}
def lives(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{{pid}}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
living = [(gpu, pid, used) for gpu, pid, used in held if pid == 0 or lives(pid)]
used = {{gpu: 4 + sum(mib for one, _pid, mib in living if one == gpu) for gpu in (0, 6)}}
uuids = {uuids!r}
asked = " ".join(sys.argv[1:])
if asked == "--query-gpu=index,uuid,name,memory.total,memory.used,driver_version --format=csv,noheader,nounits":
    sys.stdout.write({cards!r}.format(used0=used[0], used6=used[6]))
elif asked == "--query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits":
    sys.stdout.write("".join(f"{{uuids[gpu]}}, {{pid}}, {{mib}}\\n" for gpu, pid, mib in living if pid))
elif not asked:
    sys.stdout.write({header!r})
else:
    sys.exit(f"nvidia-smi: unknown {{asked}}")
"""

_DOCKER = """#!{python} -IS
import json, sys
containers = {containers!r}
arguments = sys.argv[1:]
if arguments[0] == "ps":
    label = arguments[arguments.index("--filter") + 1].removeprefix("label=")
    name, _equals, value = label.partition("=")
    for one in containers:
        if name in one["labels"] and (not value or one["labels"][name] == value):
            print(json.dumps(one["id"]))
elif arguments[0] == "inspect":
    ids = [argument for argument in arguments if len(argument) == 64]
    found = [one for one in containers if one["id"] in ids]
    print(json.dumps([{{"Id": one["id"], "Name": "/" + one["id"][:12], "Config": {{"Labels": one["labels"]}},
                        "State": {{"Status": "running"}}}} for one in found]))
else:
    sys.exit("docker: unknown command")
"""


def program(path: Path, text: str) -> Path:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def nvidia_smi(folder: Path, held: list[tuple[int, int, int]]) -> Path:
    """Make an nvidia-smi of two cards, 0 and 6.

    Args:
        folder: where.
        held: card, process and MiB; the memory is held as long as the process lives, for good by process 0, which
            nvidia-smi does not list.
    """
    text = _SMI.format(python=sys.executable, held=held, uuids=UUIDS, cards=CARDS, header=HEADER)
    return program(folder / "nvidia-smi", text)


def failing(folder: Path, words: str, status: int) -> Path:
    """Make an nvidia-smi that fails; the real one writes its errors to standard output."""
    return program(folder / "nvidia-smi", f"#!/bin/sh\ncat <<'EOF'\n{words}\nEOF\nexit {status}\n")


def docker(folder: Path, containers: list[dict[str, Any]]) -> Path:
    """Make a docker that knows some containers (id, labels)."""
    known = json.loads(json.dumps(containers))
    return program(folder / "docker", _DOCKER.format(python=sys.executable, containers=known))
