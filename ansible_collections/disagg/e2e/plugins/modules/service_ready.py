#!/usr/bin/python
"""Wait until services answer; notice at once when one ends instead."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_ready
short_description: Wait until services of a run answer, or tell why one never will
description:
  - Asks every service side by side, ten times a second, and watches its process in the meantime.
  - Ends with an error as soon as a service's process has ended (with the last lines of its log), has accepted
    connections without answering for O(services[].hang) seconds, or is not ready in time.
  - Changes nothing but its own note of when it first saw a service ready, beside supervisord's files.
options:
  run_dir:
    description: The run's directory on this node.
    type: path
    required: true
  services:
    description: What to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The service's name.
        type: str
        required: true
      url:
        description: Address that answers 200 to GET once the service is ready.
        type: str
        required: true
      log:
        description: The service's log, for the error.
        type: path
        required: true
      timeout:
        description: Seconds until it has to be ready.
        type: float
        default: 300
      hang:
        description: Seconds that one request may stay without an answer.
        type: float
        default: 20
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Wait for the router
  disagg.e2e.service_ready:
    run_dir: /tmp/disagg/manual/prefill
    services:
      - {name: router, url: "http://127.0.0.11:8000/readiness", log: /tmp/router.log}
"""

RETURN = r"""
ready_at:
  description: For each service when its process was first seen ready, in seconds since the epoch.
  returned: success
  type: dict
failure:
  description: What went wrong. C(kind) is died, hung or late; service, log, tail (last lines) and detail go with it.
  returned: failure
  type: dict
"""

import http.client
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import ENDED, Supervisor, log_tail

_POLL_SECONDS = 0.1


def _ended(supervisor: Supervisor, name: str) -> str | None:
    """Say how a service's process ended; None while it lives."""
    try:
        status = supervisor.status(name)
    except (OSError, http.client.HTTPException):
        return "its supervisord is gone"
    if status is None:
        return "it was removed"
    if status["statename"] not in ENDED:
        return None
    # For a process that ran, supervisor puts its exit status there too, as "Bad exit code", and less of it.
    if status["spawnerr"] and status["statename"] != "EXITED":
        return str(status["spawnerr"])
    lived = max(0, status["stop"] - status["start"])
    how = "killed by a signal" if status["exitstatus"] < 0 else f"exit status {status['exitstatus']}"
    return f"{how}, {lived} s after its start"


def _ask(url: str, timeout: float) -> str:
    """Ask once. Returns "ready", or what was seen instead.

    Raises:
        TimeoutError: connected, and then no answer in time.
    """
    # No proxy: the address is a node's, whatever the environment says of the outside world.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            return "ready" if answer.status == http.client.OK else f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise TimeoutError from error
        return str(error.reason)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


def _asker(service: dict[str, Any], seen: dict[str, Any], over: threading.Event) -> None:
    """Ask until it is ready; keeps in `seen` what came of it, so that the watcher never blocks on a socket."""
    while not over.is_set():
        seen["asked_at"] = time.monotonic()
        try:
            seen["last"] = _ask(service["url"], service["hang"])
        except TimeoutError:
            seen["hung"] = True
            return
        if seen["last"] == "ready":
            seen["ready_at"] = time.time()
            return
        over.wait(_POLL_SECONDS)


def _first_ready(supervisor: Supervisor, name: str, now: float) -> float:
    """Return when this very process was first seen ready, so that asking again tells the same."""
    try:
        status = supervisor.status(name)
    except (OSError, http.client.HTTPException):
        return now
    record = supervisor.programs / f"{name}.ready"
    if status is None:
        return now
    process = {"pid": status["pid"], "start": status["start"]}
    try:
        known = json.loads(record.read_text())
        if known["process"] == process:
            return float(known["ready_at"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not seen ready before
    # Its shared memory is noted for run_clean: of a process that was killed nobody could tell it any more.
    shared = sorted(node_state.shared_memory(node_state.tree(status["pid"])))
    with suppress(OSError):
        record.write_text(json.dumps({"process": process, "ready_at": now, "shared_memory": shared}))
    return now


def _watch(run_dir: str, service: dict[str, Any], results: queue.Queue[dict[str, Any]], over: threading.Event) -> None:
    supervisor = Supervisor(run_dir, timeout=5.0)
    seen: dict[str, Any] = {"last": "nothing yet"}
    threading.Thread(target=_asker, args=(service, seen, over), daemon=True).start()
    deadline = time.monotonic() + service["timeout"]
    while True:
        end = _ended(supervisor, service["name"])
        kind, detail = None, ""
        if end is not None:
            # Before "ready": whoever answers on that port now is not the service that was started.
            kind, detail = "died", end
        elif "ready_at" in seen:
            ready_at = _first_ready(supervisor, service["name"], seen["ready_at"])
            results.put({"name": service["name"], "ready_at": ready_at})
            return
        elif seen.get("hung"):
            kind = "hung"
            detail = f"it took the connection and did not answer GET {service['url']} for {service['hang']:g} s"
        elif time.monotonic() > deadline:
            kind = "late"
            detail = f"not ready after {service['timeout']:g} s; GET {service['url']} last gave: {seen['last']}"
        if kind is not None:
            results.put({"name": service["name"], "kind": kind, "detail": detail, "log": service["log"]})
            return
        if over.wait(_POLL_SECONDS):
            return


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run_dir": {"type": "path", "required": True},
            "services": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                    "log": {"type": "path", "required": True},
                    "timeout": {"type": "float", "default": 300},
                    "hang": {"type": "float", "default": 20},
                },
            },
        },
        supports_check_mode=True,
    )
    services = module.params["services"]
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    over = threading.Event()
    for service in services:
        arguments = (module.params["run_dir"], service, results, over)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
    ready: dict[str, float] = {}
    for _service in services:
        result = results.get()
        if "kind" in result:
            over.set()
            name, log = result["name"], result["log"]
            tail = log_tail(log)
            node = os.uname().nodename
            module.fail_json(
                msg=f"service {name} {result['kind']}: {result['detail']}; log {log} on {node}:\n" + "\n".join(tail),
                failure={
                    "service": name,
                    "kind": result["kind"],
                    "detail": result["detail"],
                    "log": log,
                    "tail": tail,
                },
            )
        ready[result["name"]] = result["ready_at"]
    module.exit_json(changed=False, ready_at=ready)


if __name__ == "__main__":
    main()
