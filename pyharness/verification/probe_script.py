"""The script that answers a probe: files of the collection, and what is asked of each node.

Nodes that are one machine are asked in one go, and a walk through /proc is then walked once, however many services
are asked about: what comes back is one look at the machine.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from pyharness import paths

_UTILS = paths.COLLECTION / "plugins" / "module_utils"

_SCRIPT = """
import base64, json, os, zlib
state, traffic, containers = {{"__name__": "node_state"}}, {{"__name__": "traffic"}}, {{"__name__": "containers"}}
exec(compile({state!r}, "node_state.py", "exec"), state)
exec(compile({traffic!r}, "traffic.py", "exec"), traffic)
exec(compile({containers!r}, "containers.py", "exec"), containers)
def once(names, function, key=repr):
    known = {{}}
    def answered(*asked):
        word = key(asked)
        if word not in known:
            found = function(*asked)
            known[word] = list(found) if hasattr(found, "__next__") else found
        return known[word]
    names[function.__name__] = answered
def file(asked):
    try:
        found = os.stat(asked[0])
    except OSError:
        return repr(asked)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
for name in ("processes", "tcp_sockets", "socket_owners", "run_processes", "shared_files"):
    once(state, state[name])
once(state, state["sha256_of"], file)
once(traffic, traffic["established"])
once(traffic, traffic["rdma_ports"])
once(containers, containers["run_containers"])
def look(asked):
    answer = {{"services": {{}}, "up_since": (state["process"](1) or {{}}).get("started_at")}}
    for name, service in asked["services"].items():
        pids = state["tree"](service["pid"]) if service["pid"] else []
        answer["services"][name] = {{
            "process": state["process"](service["pid"]) if service["pid"] else None,
            "pids": pids,
            "listeners": state["listeners"](service["address"], [service["port"]]),
            "libraries": state["loaded_files"](pids, asked["libraries"]) if asked["libraries"] else [],
            "connections": traffic["tcp_connections"](pids) if asked["traffic"] else None,
        }}
    if asked["traffic"]:
        answer["rdma"] = traffic["rdma_ports"]()
    if asked["files"]:
        seen = {{path: state["seen_by"](pid, path) for path, pid in asked["files"].items()}}
        answer["files"] = {{path: state["sha256_of"](place) for path, place in seen.items()}}
    if asked["run"]:
        answer["run_processes"] = state["run_processes"](asked["run"])
        answer["run_containers"] = containers["run_containers"](asked["run"])
        answer["shared_memory"] = state["shared_files"]()
    if asked["reach"]:
        answer["reached"] = [traffic["reaches"](address, port) for address, port in asked["reach"]]
    return answer
questions = json.loads(zlib.decompress(base64.b64decode({asked!r})))
print(json.dumps({{node: look(asked) for node, asked in questions.items()}}))
"""


def of(questions: dict[str, Any]) -> str:
    """Return the script that prints the answers as JSON, by node.

    Args:
        questions: by node what to look at, as `Nodes.probe` puts it together.
    """
    files = {name: (_UTILS / f"{name}.py").read_text(encoding="utf-8") for name in ("traffic", "containers")}
    state = (_UTILS / "node_state.py").read_text(encoding="utf-8")
    # Packed: a shell takes no more than 128 KiB in one word (MAX_ARG_STRLEN), and of 64 nodes much the same is asked.
    asked = base64.b64encode(zlib.compress(json.dumps(questions).encode())).decode()
    return _SCRIPT.format(state=state, asked=asked, **files)
