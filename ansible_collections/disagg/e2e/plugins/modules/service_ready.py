#!/usr/bin/python
"""Wait until services answer; notice at once when one ends instead."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_ready
short_description: Wait until services of a run answer, or tell why one never will
description:
  - Asks every service side by side, ten times a second, and watches its process or container in the meantime.
  - Ends with an error as soon as a service's process has ended (with the last lines of its log), has accepted
    connections without answering for O(services[].hang) seconds, or is not ready in time.
  - Changes nothing but its own note of when it first saw a service ready, in the run's directory.
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
      container:
        description: The container that it runs in; empty for a process under the run's supervisord.
        type: str
        default: ""
      timeout:
        description: Seconds until it has to be ready.
        type: float
        default: 300
      hang:
        description: Seconds that one request may stay without an answer.
        type: float
        default: 20
      leased:
        description: Ports by the names of their leases. It is ready when its own processes listen on all of them too.
        type: dict
        default: {}
  tell_taken:
    description: A leased port that is another program's is told in RV(taken), and is no failure.
    type: bool
    default: false
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
processes:
  description:
    - For each service C(pid) and C(started_at) (seconds since the epoch) of its first process on this node, and
      C(shared_memory), the files below /dev/shm that it and its children had mapped when it was ready.
  returned: success
  type: dict
failure:
  description: >-
    What went wrong. C(kind) is died, hung, late or taken (a leased port is another program's); service, log, tail (last
    lines) and detail go with it.
  returned: failure
  type: dict
taken:
  description: The names of the leased ports that another program has taken.
  returned: always
  type: list
"""

import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import own_ports
from ansible_collections.disagg.e2e.plugins.module_utils.watched import Watched, watched

_POLL_SECONDS = 0.1
_SEARCHED_LINES = 200


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


def _watch(
    subject: Watched, service: dict[str, Any], results: queue.Queue[dict[str, Any]], over: threading.Event
) -> None:
    seen: dict[str, Any] = {"last": "nothing yet"}
    threading.Thread(target=_asker, args=(service, seen, over), daemon=True).start()
    deadline = time.monotonic() + service["timeout"]
    while True:
        end = subject.ended()
        kind, detail = None, ""
        answers, taken = "ready_at" in seen, []
        if service["leased"] and (answers or end is not None):
            ports = own_ports.seen(service["leased"], subject.first_process()["pid"], subject.lines(_SEARCHED_LINES))
            answers, taken = answers and not ports.missing, ports.taken
        if taken:
            # Before all else: what a service does without its port, or why it ended, follows from that.
            kind = "taken"
            detail = "another program has " + ", ".join(f"port {service['leased'][name]} ({name})" for name in taken)
        elif end is not None:
            # Before "ready": whoever answers on that port now is not the service that was started.
            kind, detail = "died", end
        elif answers:
            results.put({"name": service["name"], **subject.ready(seen["ready_at"])})
            return
        elif seen.get("hung"):
            kind = "hung"
            detail = f"it took the connection and did not answer GET {service['url']} for {service['hang']:g} s"
        elif time.monotonic() > deadline:
            kind = "late"
            detail = f"not ready after {service['timeout']:g} s; GET {service['url']} last gave: {seen['last']}"
        if kind is not None:
            failure = {
                "kind": kind,
                "taken": taken,
                "detail": detail,
                "log": service["log"],
                "tail": subject.last_words(urllib.parse.urlsplit(service["url"]).path),
            }
            results.put({"name": service["name"], "failure": failure})
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
                    "container": {"type": "str", "default": ""},
                    "timeout": {"type": "float", "default": 300},
                    "hang": {"type": "float", "default": 20},
                    "leased": {"type": "dict", "default": {}},
                },
            },
            "tell_taken": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    services = module.params["services"]
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    over = threading.Event()
    subjects = []
    for service in services:
        subject = watched(module.params["run_dir"], service)
        subjects.append(subject)
        threading.Thread(target=_watch, args=(subject, service, results, over), daemon=True).start()
    ready: dict[str, float] = {}
    processes: dict[str, dict[str, Any]] = {}
    failed: dict[str, Any] = {}
    for _service in services:
        result = results.get()
        if "failure" in result:
            failed = result
            break
        ready[result["name"]] = result["ready_at"]
        processes[result["name"]] = {key: result[key] for key in ("pid", "started_at", "shared_memory")}
    over.set()
    for subject in subjects:
        subject.close()
    if failed:
        name, failure = failed["name"], failed["failure"]
        if failure["kind"] == "taken" and module.params["tell_taken"]:
            module.exit_json(changed=False, ready_at=ready, processes=processes, taken=failure["taken"])
        told = f"service {name} {failure['kind']}: {failure['detail']}; log {failure['log']} on {os.uname().nodename}:"
        said = "\n".join([told, *failure["tail"]])
        module.fail_json(msg=said, failure={"service": name, **failure}, taken=failure["taken"])
    module.exit_json(changed=False, ready_at=ready, processes=processes, taken=[])


if __name__ == "__main__":
    main()
