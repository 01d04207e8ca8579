"""What a fault does on a node: small scripts for the node's own Python, with files of the collection.

Like the probe of verification/node_probe.py, nothing is installed there, and a process of the run is told from others
by the same means as in Ansible's modules.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyharness import paths

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_UTILS = paths.COLLECTION / "plugins" / "module_utils"
_FILES = ("node_state", "containers", "supervisor", "lease")

_SCRIPT = """
import json, os, re, signal, time, xmlrpc.client
parts = {parts!r}
names = {{name: {{"__name__": name}} for name in parts}}
for name, source in parts.items():
    exec(compile(source, name + ".py", "exec"), names[name])
state, containers, supervisor, lease = (names[name] for name in parts)
asked = json.loads({asked!r})
pids = asked["pids"] or (state["tree"](asked["pid"]) if asked["pid"] else [])
found = state["process"](asked["pid"]) if asked["pid"] else None
ours = bool(found and found["state"] not in "ZX" and found["run"] == asked["run"])

def send(number, pids):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # gone already

def left(pids):
    seen = [state["process"](pid) for pid in pids]
    return [process["pid"] for process in seen if process and process["state"] not in "ZX"]

def wait(done):
    started = time.monotonic()
    while not done() and time.monotonic() < started + asked["seconds"]:
        time.sleep(0.02)  # the poll interval; what is left at the deadline is told
    return round(time.monotonic() - started, 3)

{action}
print(json.dumps(answer))
"""

# How the service is now: its processes by their states (proc(5): T is stopped), and what its container says.
LOOK = """
answer = {"process": found, "ours": ours, "pids": pids if ours or asked["pids"] else []}
seen = {pid: state["process"](pid) for pid in answer["pids"]}
answer["states"] = {str(pid): process["state"] for pid, process in seen.items() if process}
answer["container"] = (containers["status"](asked["container"]) or {}).get("Status") if asked["container"] else None
"""

KILL = """
answer = {"process": found, "pids": pids if ours else [], "left": []}
if ours:
    if asked["container"]:
        containers["docker"]("kill", asked["container"])
    send(signal.SIGKILL, pids)
    answer["seconds"] = wait(lambda: not left(pids))
    answer["left"] = left(pids)
"""

# To its first process alone, as who runs it would; a container's engine signals its first one likewise.
TERMINATE = """
answer = {"process": found, "pids": pids if ours else []}
if ours and asked["container"]:
    containers["docker"]("kill", "--signal", "TERM", asked["container"])
elif ours:
    send(signal.SIGTERM, [asked["pid"]])
"""

# Signals that wait to be delivered, and those that are ignored, as proc(5) has them: bit 14 is SIGTERM's.
WAIT_GONE = """
waited = wait(lambda: not left(pids))
answer = {"left": left(pids), "waited": waited, "exit": None, "signal": None, "pending": False, "ignored": False}
if answer["left"]:
    try:
        with open("/proc/%d/status" % asked["pid"]) as stream:
            masks = dict(re.findall(r"^(\\w+):\\s+([0-9a-f]{16})$", stream.read(), re.MULTILINE))
        term = 1 << (signal.SIGTERM - 1)
        answer["pending"] = bool((int(masks["SigPnd"], 16) | int(masks["ShdPnd"], 16)) & term)
        answer["ignored"] = bool(int(masks["SigIgn"], 16) & term)
    except OSError:
        pass  # its first process has ended, and left others
elif asked["container"]:
    code = (containers["status"](asked["container"]) or {}).get("ExitCode")
    answer["exit"] = code
    answer["signal"] = signal.Signals(code - 128).name if code and code > 128 else None
else:
    told = r"(?:exited|stopped): %s \\((?:exit status (\\d+)|terminated by (\\w+))" % re.escape(asked["name"])
    words = []
    def written():
        with open(asked["run_dir"] + "/supervisord.log", errors="replace") as stream:
            words[:] = re.findall(told, stream.read())
        status = supervisor["Supervisor"](asked["run_dir"]).status(asked["name"])
        return status is None or status["pid"] != asked["pid"] or status["statename"] != "RUNNING"
    wait(written)
    written()
    if words:
        answer["exit"] = int(words[-1][0]) if words[-1][0] else None
        answer["signal"] = words[-1][1] or None
"""

# The parent before its children, and again until there is none that was not stopped: what runs may start others.
STOP = """
answer = {"process": found, "pids": []}
if ours and asked["container"]:
    containers["docker"]("pause", asked["container"])
    answer["pids"] = pids
elif ours:
    stopped = []
    while set(pids) - set(stopped):
        send(signal.SIGSTOP, [pid for pid in pids if pid not in stopped])
        stopped += [pid for pid in pids if pid not in stopped]
        pids = state["tree"](asked["pid"])
    answer["pids"] = stopped
wait(lambda: asked["container"] or all(
    (state["process"](pid) or {"state": "T"})["state"] in "TZX" for pid in answer["pids"]))
"""

CONTINUE = """
answer = {"pids": asked["pids"]}
if asked["container"]:
    if (containers["status"](asked["container"]) or {}).get("Status") == "paused":
        containers["docker"]("unpause", asked["container"])
else:
    send(signal.SIGCONT, [pid for pid in asked["pids"] if (state["process"](pid) or {}).get("run") == asked["run"]])
    wait(lambda: not any((state["process"](pid) or {"state": "R"})["state"] == "T" for pid in asked["pids"]))
"""

# Under the lease that the run was given: a harness that was asleep must not start anything on somebody else's node.
START = """
with lease["guarded"](asked["lease"]):
    if asked["container"]:
        containers["docker"]("start", asked["container"])
        pid = containers["status"](asked["container"])["Pid"]
    else:
        of_the_run = supervisor["Supervisor"](asked["run_dir"])
        def started():
            try:
                of_the_run.rpc.startProcess(asked["name"], False)
            except xmlrpc.client.Fault as fault:
                if "ALREADY_STARTED" not in fault.faultString:
                    raise
                # Either somebody has started it, or supervisord has not taken note yet that it has ended.
                return state["is_alive"](of_the_run.status(asked["name"])["pid"])
            return True
        wait(started)
        pid = of_the_run.status(asked["name"])["pid"]
found = state["process"](pid) if pid else None
answer = {"pid": pid, "started_at": found["started_at"] if found else 0.0}
"""

# Established connections of this machine with a client (include/net/tcp_states.h: 01).
CONNECTED = """
host, port = asked["client"]
answer = {"connections": [
    {name: entry[name] for name in ("address", "port", "remote_address", "remote_port")}
    for entry in state["tcp_sockets"](("01",))
    if (entry["remote_address"], entry["remote_port"]) == (host, port)
]}
"""


def do(trial: Trial, service: Service, action: str, *, seconds: float = 10.0, **asked: Any) -> dict[str, Any]:
    """Do something to a service on its node.

    Args:
        trial: whose service.
        service: which, as it runs now.
        action: one of this module's scripts.
        seconds: how long the script may wait for what it does.
        asked: further things that the script asks for, such as pids.

    Raises:
        NodeError: the node cannot be asked, or what was to be done is refused there.
    """
    parts = {name: (_UTILS / f"{name}.py").read_text(encoding="utf-8") for name in _FILES}
    question = {
        "name": service.name,
        "pid": service.pid,
        "pids": [],
        "run": trial.deployment.run_id,
        "run_dir": service.run_dir,
        "container": (service.container or {}).get("name", ""),
        "lease": trial.lease(service.node),
        "seconds": seconds,
        **asked,
    }
    return trial.nodes.run_python(service.node, _SCRIPT.format(parts=parts, asked=json.dumps(question), action=action))
