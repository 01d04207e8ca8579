"""The collection's modules for services, run as Ansible runs them, with a real supervisord."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import sys
import tarfile
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import lease, node_state
from ansible_collections.disagg.e2e.plugins.modules import (
    deployment_replaced,
    run_clean,
    service_process,
    service_ready,
)
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.0.0.42"
SUPERVISORD = str(Path(sys.executable).parent / "supervisord")
IDLE = [sys.executable, "-c", "import signal; print('last words', flush=True); signal.pause()"]


class Deployed:
    """A run's folder on a node of this machine, with supervisord as it comes up.

    The node's name is its own: what cleans all runs of a node must not meet those of tests beside it.
    """

    def __init__(self, state: Path) -> None:
        word = uuid.uuid4().hex[:8]
        self.state, self.run_id, self.node = state, f"unit-{word}", f"n{word}"
        self.run_dir = state / self.run_id / self.node

    def start(self, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        log = str(self.run_dir / "logs" / "decode.log")
        given: dict[str, Any] = {"run": self.run_id, "run_dir": str(self.run_dir), "node": self.node}
        given |= {"supervisord": SUPERVISORD}
        given |= {"name": "decode", "command": IDLE, "log": log, "stop_grace": 2, "environment": {"A": '50% "x" # y'}}
        return run(service_process, check=check, **{**given, **changes})

    def up(self) -> dict[str, Any]:
        """Start the service and wait until its program runs: until then it is a fork of supervisord."""
        result = self.start()
        log = self.run_dir / "logs" / "decode.log"
        deadline = time.monotonic() + 10
        while not (log.exists() and log.read_text()):
            assert time.monotonic() < deadline, f"nothing in {log} after 10 s"
            time.sleep(0.01)  # the poll interval
        return result

    def ready(self, url: str, **changes: Any) -> dict[str, Any]:
        log = str(self.run_dir / "logs" / "decode.log")
        service = {"name": "decode", "url": url, "log": log, "timeout": 5, "hang": 0.2, **changes}
        return run(service_ready, run_dir=str(self.run_dir), services=[service])

    def clean(self, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"run": self.run_id, "state_dir": str(self.state), "node": self.node, "stop_timeout": 5}
        return run(run_clean, check=check, **{**given, **changes})


@pytest.fixture
def deployed() -> Iterator[Deployed]:
    """Return a run's folder, short enough for a socket's path; ends whatever a test leaves of the run."""
    state = Path("/tmp") / f"disagg-{uuid.uuid4().hex[:8]}"  # noqa: S108 (a name nobody can guess, made by mkdir)
    state.mkdir(mode=0o700)
    subject = Deployed(state)
    yield subject
    # By signal, supervisord first: asking it, as the module does, takes it up to a second.
    left = node_state.run_processes(subject.run_id)
    for process in sorted(left, key=lambda found: found["service"] != "supervisord"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)
    assert node_state.wait_gone(subject.run_id, 5.0) == []
    shutil.rmtree(state)


class _Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Return the address of a server that answers 200."""
    with http.server.ThreadingHTTPServer((ADDRESS, 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://{ADDRESS}:{server.server_port}/health"
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> Iterator[str]:
    """Return an address where nobody listens."""
    with socket.socket() as bound:
        bound.bind((ADDRESS, 0))
        yield f"http://{ADDRESS}:{bound.getsockname()[1]}/health"


def test_a_services_life(deployed: Deployed, url: str, tmp_path: Path) -> None:
    assert deployed.start(check=True)["changed"] is True
    assert not deployed.run_dir.exists(), "check mode starts nothing"

    first = deployed.up()
    assert first["changed"] is True
    found = node_state.process(first["pid"])
    assert found is not None
    assert (found["run"], found["node"], found["service"]) == (deployed.run_id, deployed.node, "decode")
    assert found["started_at"] == pytest.approx(first["started_at"], abs=0.01)
    environment = node_state.environment(first["pid"])
    assert environment["A"] == '50% "x" # y'
    assert not {"HF_TOKEN", "PYTEST_CURRENT_TEST"} & set(environment), "the caller's variables stay the caller's"

    assert deployed.start() == {**first, "changed": False}, "the same again is left alone"
    ready = deployed.ready(url)
    assert ready["ready_at"]["decode"] > first["started_at"]

    second = deployed.start(environment={"A": "other"})
    assert second["changed"] is True
    assert second["pid"] != first["pid"]
    assert node_state.process(first["pid"]) is None

    archive = tmp_path / "logs" / "one.tar.gz"
    assert deployed.clean(check=True)["changed"] is True
    ended = deployed.clean(archive=str(archive))
    assert (ended["changed"], ended["runs"], ended["left"]) == (True, [deployed.run_id], [])
    assert ended["archive"] == str(archive)
    assert archive.is_file()
    assert node_state.run_processes(deployed.run_id) == []
    assert not deployed.run_dir.parent.exists()
    again = deployed.clean()
    assert (again["changed"], again["runs"]) == (False, [])


def services(run: str) -> set[str | None]:
    return {entry["service"] for entry in node_state.run_processes(run)}


def test_what_is_to_be_known_of_a_service_comes_back_with_what_became_of_it(deployed: Deployed) -> None:
    started = deployed.start(record={"kind": "decode", "port": 30001})
    record = started["record"]
    assert (record["kind"], record["port"], record["name"]) == ("decode", 30001, "decode")
    assert (record["pid"], record["started_at"]) == (started["pid"], started["started_at"])
    assert (record["command"], record["environment"]) == (IDLE, {"A": '50% "x" # y'})
    assert record["log"].endswith("/decode.log")


def test_services_of_an_earlier_deployment_end_before_the_next_begins(deployed: Deployed) -> None:
    deployed.start(name="prefill", deployment="one")
    deployed.start(name="decode", deployment="one")
    assert not deployed.start(name="decode", deployment="one")["changed"]
    deployed.start(name="rank0", deployment="two")
    deployed.start(name="rank1", deployment="two")

    # One that has only been forked is supervisord's still, by its mark.
    deadline = time.monotonic() + 10
    while (living := services(deployed.run_id)) != {"supervisord", "rank0", "rank1"}:
        assert time.monotonic() < deadline, f"{living} after 10 s"
        time.sleep(0.01)  # the poll interval
    assert deployed.start(name="decode", deployment="one")["changed"]


def test_a_service_that_dies_is_told_with_its_last_words(deployed: Deployed, nobody: str) -> None:
    deployed.start(command=[sys.executable, "-c", "print('last words'); raise SystemExit(3)"])
    result = deployed.ready(nobody)
    assert result["failed"] is True
    assert result["failure"]["kind"] == "died"
    assert result["failure"]["detail"].startswith("exit status 3, ")
    assert result["failure"]["tail"] == ["last words"]


def test_a_service_that_was_killed_is_told(deployed: Deployed, nobody: str) -> None:
    os.kill(deployed.up()["pid"], 9)
    assert deployed.ready(nobody)["failure"]["detail"].startswith("killed by a signal, ")


def test_a_service_whose_program_is_not_there_is_told(deployed: Deployed, nobody: str) -> None:
    deployed.start(command=["/no/such/program"])
    result = deployed.ready(nobody)
    assert result["failure"]["kind"] == "died"
    assert "/no/such/program" in result["failure"]["detail"]


def test_a_service_that_hangs_or_comes_late_is_told(
    deployed: Deployed, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.up()
    with socket.create_server((ADDRESS, 0)) as silent:
        hung = deployed.ready(f"http://{ADDRESS}:{silent.getsockname()[1]}/")
    assert hung["failure"]["kind"] == "hung"
    assert hung["failure"]["tail"] == ["last words"]
    late = deployed.ready(nobody, timeout=0.2)
    assert late["failure"]["kind"] == "late"
    assert "refused" in late["failure"]["detail"]
    monkeypatch.setattr(_Handler, "status", 503)
    with http.server.HTTPServer((ADDRESS, 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        starting = deployed.ready(f"http://{ADDRESS}:{server.server_port}/", timeout=0.3)
        server.shutdown()
    assert starting["failure"]["detail"].endswith("last gave: HTTP 503")


def test_a_service_without_its_supervisord_is_told(deployed: Deployed, nobody: str) -> None:
    result = deployed.ready(nobody)
    assert (result["failure"]["kind"], result["failure"]["detail"]) == ("died", "its supervisord is gone")


def test_what_supervisor_cannot_take_is_told(deployed: Deployed) -> None:
    result = deployed.start(environment={"TOKEN": "two\nlines"})
    assert result["failed"] is True
    assert "environment variable TOKEN: supervisor cannot take" in result["msg"]


def test_a_folder_too_long_for_a_socket_is_told(deployed: Deployed) -> None:
    result = deployed.start(run_dir=str(deployed.run_dir / ("x" * 100)))
    assert result["failed"] is True
    assert "set disagg_state_dir in the inventory to a shorter directory" in result["msg"]


def test_a_node_without_supervisor_is_told(deployed: Deployed) -> None:
    result = deployed.start(supervisord="/no/such/supervisord")
    assert "is supervisor installed on this node?" in result["msg"]


def test_a_run_whose_supervisord_was_killed_is_cleaned_too(deployed: Deployed) -> None:
    started = deployed.up()
    (daemon,) = node_state.run_processes(deployed.run_id, service="supervisord")
    os.kill(daemon["pid"], 9)
    ended = deployed.clean(run="all")
    assert deployed.run_id in ended["runs"]
    assert [entry["pid"] for entry in ended["killed"]] == [started["pid"]]
    assert ended["left"] == []


# ---------------------------------------------------------------- leases


@pytest.fixture
def leased(deployed: Deployed) -> dict[str, Any]:
    """Return the lease that the run has on the node: its file and its number."""
    file = lease.path(str(deployed.state / "leases"), deployed.node)
    return {"file": file, "number": claim(file, deployed.run_id)["entry"]["number"]}


def claim(file: str, run: str, **changes: Any) -> dict[str, Any]:
    node = Path(file).stem
    asked: dict[str, Any] = {"name": node, "nodes": [node], "run": run, "test_case": "test_it", "holder": "me"}
    asked |= {"process": "p", "ttl_seconds": 60.0, "expected_seconds": None, "dead": []}
    return lease.take(file, {**asked, **changes})


def holder(file: str) -> str | None:
    entry = lease.read(file)
    assert entry
    run: str | None = entry["run"]
    return run


def test_a_service_is_started_under_its_runs_lease_and_bears_it(deployed: Deployed, leased: dict[str, Any]) -> None:
    pid = deployed.start(lease=leased)["pid"]
    deadline = time.monotonic() + 10
    while not node_state.environment(pid):  # it is just becoming the program that it is to run
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert node_state.environment(pid)[node_state.LEASE_VARIABLE] == leased["file"]
    assert deployed.clean(lease=leased["file"])["released"] is True
    assert holder(leased["file"]) is None


def test_nothing_is_started_under_a_lease_that_is_lost(deployed: Deployed, leased: dict[str, Any]) -> None:
    claim(leased["file"], "theirs", dead=["p"])
    result = deployed.start(lease=leased)
    assert result["msg"].startswith(
        f"lease lost: {deployed.node} was not renewed in time and has passed on; it is held by run theirs"
    )
    assert node_state.run_processes(deployed.run_id) == []
    replaced = run(
        deployment_replaced,
        run=deployed.run_id,
        run_dir=str(deployed.run_dir),
        node=deployed.node,
        deployment="two",
        lease=leased,
    )
    assert replaced["msg"].startswith("lease lost: ")


def test_a_lease_that_is_lost_while_the_service_before_ends_stops_the_next(
    deployed: Deployed, leased: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.start(name="prefill", deployment="one", lease=leased)
    real = service_process._remove

    def slowly(*arguments: Any) -> None:
        real(*arguments)
        claim(leased["file"], "theirs", dead=["p"])

    monkeypatch.setattr(service_process, "_remove", slowly)
    assert deployed.start(deployment="two", lease=leased)["msg"].startswith("lease lost: ")
    assert services(deployed.run_id) == {"supervisord"}


def test_a_teardown_gives_back_what_is_its_runs_and_nothing_else(deployed: Deployed, leased: dict[str, Any]) -> None:
    assert deployed.clean(run="theirs", lease=leased["file"])["released"] is False
    assert holder(leased["file"]) == deployed.run_id
    claim(leased["file"], "theirs", dead=["p"])
    result = deployed.clean(lease=leased["file"])
    assert (result["runs"], result["released"], result["changed"]) == ([], True, True)
    entry = lease.read(leased["file"])
    assert entry
    assert (entry["run"], entry["leftovers"]) == ("theirs", []), "that the first left something is not noted any more"
    assert deployed.clean(lease=leased["file"])["changed"] is False


def test_a_node_that_cannot_be_cleaned_stays_leased_and_goes_into_quarantine(
    deployed: Deployed, leased: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.up()
    immortal = {"pid": 7, "service": "decode", "command": "cannot be ended"}
    mark = deployed.state / "quarantine-one.json"
    with monkeypatch.context() as patch:
        patch.setattr(node_state, "wait_gone", lambda *_arguments: [immortal])
        result = deployed.clean(lease=leased["file"], quarantine=str(mark))
    assert (result["left"], result["quarantined"], result["released"]) == ([immortal], True, False)
    entry = json.loads(mark.read_text())
    assert (entry["node"], entry["run"]) == (deployed.node, deployed.run_id)
    assert entry["reason"] == "teardown could not end cannot be ended"
    assert holder(leased["file"]) == deployed.run_id
    assert deployed.run_dir.exists()


def test_the_engine_that_answered_alone_goes_with_its_run_and_so_do_its_logs(deployed: Deployed) -> None:
    alone = f"{deployed.run_id}-single"
    folder = deployed.state / alone / deployed.node
    deployed.start(run=alone, run_dir=str(folder), name="single", log=str(folder / "logs" / "single.log"))
    deployed.up()
    archive = deployed.state / "logs.tar.gz"
    result = deployed.clean(archive=str(archive))
    assert result["runs"] == [alone, deployed.run_id]
    assert node_state.run_processes(alone) == []
    with tarfile.open(archive) as tar:
        assert {"./single.log", "./decode.log"} <= set(tar.getnames())
    assert not folder.exists()


def test_a_dead_run_is_cleaned_up_by_the_names_that_it_had(deployed: Deployed) -> None:
    deployed.up()
    assert deployed.clean(node="uno")["runs"] == []
    assert deployed.clean(node=f"{deployed.node}-anew", names=[deployed.node])["runs"] == [deployed.run_id]
    assert node_state.run_processes(deployed.run_id) == []


def test_all_is_all_but_what_stands_under_another_lease(deployed: Deployed, leased: dict[str, Any]) -> None:
    deployed.start(lease=leased)
    asked = {"run": "all", "lease": str(deployed.state / "leases" / "another.json")}
    assert deployed.run_id not in deployed.clean(check=True, **asked)["runs"], "of a neighbour of the same name"
    for found in node_state.run_processes(deployed.run_id):
        os.kill(found["pid"], signal.SIGKILL)
    assert node_state.wait_gone(deployed.run_id, 5.0) == []
    assert deployed.run_id not in deployed.clean(check=True, **asked)["runs"], "its directory tells"
    assert deployed.run_id in deployed.clean(check=True, run="all", lease=leased["file"])["runs"]
