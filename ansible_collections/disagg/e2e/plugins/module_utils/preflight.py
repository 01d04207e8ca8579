"""Hold what a node is and has against what a run needs. Pure: no node is asked anything here.

Role `node` refuses a node by it, and the harness's `doctor` shows all of it. A finding is a dictionary:

- ``what``: the subject, a word or two;
- ``state``: ``ok``, ``missing`` (not there), ``wrong`` (there, and not as it has to be) or ``unknown``;
- ``said``: what was seen, and what is needed where that is something else;
- ``remedy``: what to do; empty when nothing is to be done;
- ``refuses``: whether a run cannot start with it. What a run sees to itself does not refuse.
"""

from __future__ import annotations

import re
import time
from typing import Any, Iterator

Finding = dict[str, Any]
Facts = dict[str, Any]

_GIB = 1024**3
_MIB = 1024**2
UNLIMITED = -1


def ok(what: str, said: str) -> Finding:
    """Return a finding that all is well."""
    return {"what": what, "state": "ok", "said": said, "remedy": "", "refuses": False}


def bad(what: str, state: str, said: str, remedy: str, *, refuses: bool = True) -> Finding:
    """Return a finding that something is not as it has to be."""
    return {"what": what, "state": state, "said": said, "remedy": remedy, "refuses": refuses}


def findings(facts: Facts, peers: list[Facts]) -> list[Finding]:
    """Judge a node.

    Args:
        facts: what role node publishes as node_result: what module node_info returned, with name and wanted (see the
            role's argument specs).
        peers: the same of the run's other nodes, for their clocks; those without a clock do not count.

    Returns:
        all findings, those that are well included.
    """
    judges = (
        _quarantine,
        _lease,
        _root,
        _system,
        _address,
        _ports,
        _disks,
        _memory,
        _shared_memory,
        _memlock,
        _libraries,
        _gpus,
    )
    result = [finding for judge in judges for finding in judge(facts, facts["wanted"])]
    return [*result, *_clocks(facts, peers), *_others(facts)]


def problems(facts: Facts, peers: list[Facts]) -> list[str]:
    """Return why a run cannot start on a node, all reasons at once, each in one line with its remedy."""
    return [f"{found['said']}; {found['remedy']}" for found in findings(facts, peers) if found["refuses"]]


def gib(count: float) -> str:
    """Return a number of bytes as a person reads it."""
    return f"{count / _GIB:.1f} GiB"


def moment(seconds: Any) -> str:
    """Return a time (seconds since the epoch, or a text that is one already) as a person reads it."""
    if isinstance(seconds, (int, float)):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    return str(seconds or "a time that nobody noted")


def holder(process: Facts | None) -> str:
    """Name a process that holds something; None is one that this user may not see."""
    if process is None:
        return "a process of another user"
    of_run = f" of run {process['run']} (service {process['service']})" if process.get("run") else ""
    return f"pid {process['pid']}{of_run}, up since {moment(process['started_at'])}: {process['command']}"


def advice(process: Facts | None, otherwise: str) -> str:
    """Say how to end a process: by its run if it is of one."""
    return f"end it with: {teardown(process['run'])}" if process and process.get("run") else otherwise


def teardown(run: str) -> str:
    """Return the command that ends a run."""
    return f"python -m pyharness teardown --run {run}"


def _quarantine(facts: Facts, _wanted: Facts) -> Iterator[Finding]:
    found = facts["quarantine"]
    if found is None:
        yield ok("quarantine", "none")
        return
    said = f"in quarantine since {moment(found['since'])}"
    # Logical nodes on one machine share its state directory, and so the quarantine.
    said += f", as {found['node']}" if found["node"] not in (None, facts["name"]) else ""
    said += f", put there by run {found['run']}" if found["run"] else ""
    yield bad(
        "quarantine",
        "wrong",
        f"{said}: {' '.join(str(found['reason']).split())}",
        f"put that right, then release it: python -m pyharness doctor -i INVENTORY --release {facts['name']}",
    )


def _lease(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    found = facts["lease"]
    if found["state"] == "unknown":
        yield bad("lease", "unknown", *_halves(found["problem"]))
    elif found["state"] in ("held", "kept") and found["run"] != wanted["run"]:
        remedy = f"wait until it has ended, or end it: {teardown(found['run'])}"
        yield bad("lease", "wrong", f"the node is held by {found['told']}", remedy)
    elif found["state"] == "expired":
        # The next run takes it over, and cleans up first.
        yield ok("lease", f"free; the holder before has died: {found['told']}")
    else:
        yield ok("lease", f"held by {found['told']}" if found["told"] else "free")


def _root(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    uid = facts["user_id"]
    if uid == 0 or not wanted["root"]:
        yield ok("user", "root" if uid == 0 else f"uid {uid}")
        return
    yield bad(
        "user",
        "missing",
        f"Ansible's modules run as uid {uid} on {facts['hostname']}, and root is needed to install packages and to run "
        "containers",
        "set ansible_become: true in the inventory and allow the user sudo without a password (a file in "
        "/etc/sudoers.d with: USER ALL=(ALL) NOPASSWD: ALL), or set ansible_user: root",
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _older(version: str, least: str) -> bool:
    return _numbers(version) < _numbers(least)


def _system(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    system = facts["system"]
    own = f"{system['id']} {system['version']}".strip()
    if not wanted["os"] or own.lower() in [name.lower() for name in wanted["os"]]:
        yield ok("system", system["name"] or own or "not known")
    else:
        said = f"the system is {system['name'] or own or 'not known'}, and it has to be {' or '.join(wanted['os'])}"
        yield bad("system", "wrong", said, "install one of them, or take another host")
    architecture = system["architecture"]
    if not wanted["architectures"] or architecture in wanted["architectures"]:
        yield ok("architecture", architecture)
    else:
        said = f"the machine is {architecture}, and it has to be {' or '.join(wanted['architectures'])}"
        yield bad("architecture", "wrong", said, "take another host, or an image and a wheel for it")
    kinds = (
        ("kernel", wanted["min_kernel"], "install a newer kernel and boot it"),
        ("python", wanted["min_python"], "install it and name it in ansible_python_interpreter"),
    )
    for kind, least, remedy in kinds:
        if least and _older(system[kind], least):
            said = f"{kind} is {system[kind]}, and {least} or later is needed"
            yield bad(kind, "wrong", said, remedy)
        else:
            yield ok(kind, system[kind])


def _address(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    if facts["is_local_address"]:
        yield ok("address", wanted["address"])
        return
    yield bad(
        "address",
        "wrong",
        f"{wanted['address']} is no address of this node ({facts['hostname']})",
        f"set ansible_host (or disagg_address) of {facts['name']} in the inventory to one that it has",
    )


def _ports(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    # Once each, though a server may listen with IPv4 and IPv6.
    strangers = {
        (entry["port"], (entry["process"] or {}).get("pid")): entry
        for entry in facts["listeners"]
        if (entry["process"] or {}).get("run") != wanted["run"]
    }
    for entry in strangers.values():
        said = f"port {entry['port']} of {wanted['address']} is held by {holder(entry['process'])}"
        yield bad("ports", "wrong", said, advice(entry["process"], "stop it, or give the test case another port"))
    if wanted["ports"] and not strangers:
        yield ok("ports", f"{', '.join(map(str, sorted(wanted['ports'])))} free")


def _disks(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    needs = {wanted["state_dir"]: wanted["min_free_gib"]}
    for path, need in wanted["disks"].items():
        needs[path] = max(need, needs.get(path, 0))
    for path, need in needs.items():
        found = facts["disks"][path]
        free = gib(found["free_bytes"])
        if found["free_bytes"] < need * _GIB:
            said = f"{free} of disk are free at {path} ({need} needed)"
            yield bad("disk", "missing", said, "free some, or lower what the inventory asks for (disagg_min_free_gib)")
        elif path == wanted["state_dir"] and not found["writable"]:
            said = f"{path} is not writable for uid {facts['user_id']}"
            yield bad("disk", "wrong", said, "give it to that user, or set disagg_state_dir to a path of its own")
        else:
            yield ok("disk", f"{free} free at {path}")


def _memory(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    available, need = facts["memory_available_bytes"], wanted["min_memory_gib"]
    if available >= need * _GIB:
        yield ok("memory", f"{gib(available)} available")
        return
    said = f"{gib(available)} of memory are available ({need} needed)"
    yield bad("memory", "missing", said, "free some, or lower what the inventory asks for (disagg_min_memory_gib)")


def _shared_memory(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    found, need = facts["shared_memory"], wanted["min_shared_memory_mib"]
    if found["free_bytes"] is None:
        return
    said = f"{gib(found['free_bytes'])} of {gib(found['total_bytes'])} free in /dev/shm"
    if found["free_bytes"] >= need * _MIB:
        yield ok("shared memory", said)
        return
    first = found["files"][0] if found["files"] else None
    if first:
        of_run = f" of run {first['run']}" if first["run"] else ""
        said += f", the largest is {first['path']}{of_run}, {gib(first['bytes'])} of uid {first['user_id']}"
        said += f" since {moment(first['since'])}"
    # Whoever writes into it then dies of SIGBUS, without a word.
    remedy = f"end it with: {teardown(first['run'])}" if first and first["run"] else "remove what nobody needs of them"
    yield bad("shared memory", "missing", f"{said}, and {need} MiB free are needed", remedy)


_MEMLOCK_OF_USER = (
    "put '* - memlock unlimited' into /etc/security/limits.d/disagg-e2e.conf and log in anew (with systemd also "
    "LimitMEMLOCK=infinity for what starts the session), or let Ansible become root"
)
# Root of a real host is exempt. Root of a container that stands for a host is not.
_MEMLOCK_OF_ROOT = (
    "this root lacks CAP_IPC_LOCK: set LimitMEMLOCK=infinity for ssh.service, or start the container that is this host "
    "with --ulimit memlock=-1 or --cap-add IPC_LOCK"
)


def _memlock(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    limit, need = facts["memlock"], wanted["memlock"]
    soft = limit["soft_bytes"]
    has = "unlimited" if soft is None else f"{soft // 1024} KiB"
    if limit["exempt"] or soft is None or (need != UNLIMITED and soft >= need):
        yield ok("memlock", f"{has}{', and this user need not keep to it' if limit['exempt'] else ''}")
        return
    wants = "unlimited" if need == UNLIMITED else f"{need // 1024} KiB"
    # Mooncake registers memory with the device, which locks it, and only says -202 when it may not.
    yield bad(
        "memlock",
        "wrong",
        f"uid {facts['user_id']} may lock {has} of memory, and RDMA needs {wants} (ulimit -l): memory cannot be "
        "registered with the device",
        _MEMLOCK_OF_ROOT if facts["user_id"] == 0 else _MEMLOCK_OF_USER,
    )


def _libraries(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    missing = facts["missing_libraries"]
    if not missing:
        if wanted["libraries"]:
            yield ok("libraries", ", ".join(wanted["libraries"]))
        return
    command = (
        f"apt-get install --no-install-recommends {' '.join(sorted({wanted['libraries'][name] for name in missing}))}"
    )
    if facts["user_id"] == 0:
        remedy = f"a run installs them ({command})"
        yield bad("libraries", "missing", f"{', '.join(missing)} not found", remedy, refuses=False)
    else:
        said = f"{', '.join(missing)} not found, and this user may not install packages"
        yield bad("libraries", "missing", said, f"run as root on {facts['hostname']}: {command}")


def _gpus(facts: Facts, wanted: Facts) -> Iterator[Finding]:
    count, first, found = wanted["gpus"], wanted["first_gpu"], facts["gpus"]
    if not count:
        return
    if found["problem"]:
        yield bad("gpus", "missing", *_halves(found["problem"]))
        return
    there = {one["index"]: one for one in found["gpus"]}
    wants = range(first, first + count)
    absent = [index for index in wants if index not in there]
    if absent:
        said = f"GPUs {', '.join(map(str, wants))} are asked for, and the node has {', '.join(map(str, there))}"
        yield bad("gpus", "missing", said, "lower disagg_tensor_parallel or disagg_first_gpu, or take another host")
    # Processes of nobody's run do not refuse: whether they leave room is for role gpu to see when it starts.
    held = {
        (index, process["run"]): process
        for index in wants
        for process in there.get(index, {}).get("processes", [])
        if process and process["run"] not in (None, wanted["run"])
    }
    for (index, _run), process in held.items():
        yield bad("gpus", "wrong", f"GPU {index} is held by {holder(process)}", advice(process, "stop it"))
    if not absent and not held:
        yield ok("gpus", f"{', '.join(map(str, wants))} of {len(there)}: {there[first]['name']}")
    if wanted["min_driver"] and _older(found["driver"], wanted["min_driver"]):
        said = f"NVIDIA's driver is {found['driver']}, and {wanted['min_driver']} or later is needed"
        yield bad("driver", "wrong", said, "install a newer driver and reboot")
    else:
        yield ok("driver", found["driver"])


def _halves(problem: str) -> tuple[str, str]:
    """Split what was seen from what to do about it."""
    said, _separator, remedy = problem.partition("; ")
    return said, remedy or "look on the node"


def _clocks(facts: Facts, peers: list[Facts]) -> Iterator[Finding]:
    own, allowed = facts.get("clock"), facts["wanted"]["max_clock_skew"]
    remedy = "set both by NTP (timedatectl set-ntp true, or chronyc makestep) and see timedatectl"
    if own is None:
        said = "the node did not tell its time"
        yield bad("clock", "unknown", said, "see whether the command date works there", refuses=False)
        return
    offset, uncertainty = own["offset_seconds"], own["uncertainty_seconds"]
    others = [peer for peer in peers if peer.get("clock") and peer["name"] != facts["name"]]
    apart = False
    for peer in others:
        other = peer["clock"]["offset_seconds"]
        # What may be the connection's doing does not count.
        if abs(offset - other) - uncertainty - peer["clock"]["uncertainty_seconds"] > allowed:
            apart = True
            said = f"the clocks of {facts['name']} and {peer['name']} are {abs(offset - other):.1f} s apart "
            said += f"({allowed:g} s allowed; off the controller's: {facts['name']} {offset:+.1f} s, "
            said += f"{peer['name']} {other:+.1f} s)"
            yield bad("clock", "wrong", said, remedy)
    if not others and abs(offset) - uncertainty > allowed:
        apart = True
        said = f"the clock of {facts['name']} is {offset:+.1f} s off the controller's ({allowed:g} s allowed)"
        yield bad("clock", "wrong", said, remedy)
    if not apart:
        yield ok("clock", f"{offset:+.2f} s against the controller's (known to {uncertainty:.2f} s)")


def _others(facts: Facts) -> Iterator[Finding]:
    """Tell of other runs. They are no obstacle: what they hold of this run's is a finding of ports or GPUs."""
    for entry in facts["others"]:
        has = [f"{entry['processes']} processes"] if entry["processes"] else []
        has += [f"containers {', '.join(entry['containers'])}"] if entry["containers"] else []
        said = f"run {entry['run']} has {' and '.join(has)} here, since {moment(entry['since'])}"
        yield {**ok("other runs", said), "remedy": f"if nobody needs it: {teardown(entry['run'])}"}
    if not facts["others"]:
        yield ok("other runs", "none")
