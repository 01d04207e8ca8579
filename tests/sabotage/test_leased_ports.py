"""Leased ports in whole deployments of Dynamo: a race that is lost on purpose, and runs side by side."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state, port_holder
from pyharness import library
from pyharness.case import TrialName
from pyharness.options import Options
from tests.sabotage.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

requires = ["dynamo", "etcd", "nats"]

pytestmark = [pytest.mark.post_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.dynamo]

CASE = "test_dynamo_serve"
MODEL = "Qwen/Qwen3-8B"
_LOOK_SECONDS = 0.005


class Thief:
    """Takes leased ports in the moment in which they are opened to a service.

    Attributes:
        stolen: what it has got, by the names of the leases.
    """

    def __init__(self, state: Path, *names: str) -> None:
        self.stolen: dict[str, int] = {}
        self._state, self._names, self._over = state, names, threading.Event()
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._steal, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()
        for held in self._held:
            held.close()

    def _steal(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for door in self._state.glob(f"*/*/{port_holder.SOCKET_NAME}"):
                with contextlib.suppress(port_holder.HolderError):
                    told = port_holder.ask(str(door.parent))
                    for name in set(told["opened"]) & set(self._names) - set(self.stolen):
                        self._take(name, told["ports"][name])

    def _take(self, name: str, port: int) -> None:
        taker = socket.socket()
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.append(taker)
        taker.bind(("", port))
        taker.listen()
        self.stolen[name] = port


@pytest.fixture
def state() -> Iterator[Path]:
    """Return a folder for the runs' files, short enough for a socket's path, in which nobody else's runs are."""
    folder = Path("/tmp") / f"disagg-{uuid.uuid4().hex[:8]}"  # noqa: S108 (a name nobody can guess, made by mkdir)
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def options(site: Site, state: Path, variant: str) -> Options:
    extra = {"disagg_state_dir": str(state)}
    return Options(
        test_case=CASE, inventory=site.inventory, results=site.results, variants=(variant,), extra_vars=extra
    )


# What the others find each other by; what clients ask; what a worker goes on without, and says so in its log alone.
@pytest.mark.parametrize("name", ["etcd.client", "frontend.http", "worker-2.kv_events"])
def test_a_port_that_is_lost_is_leased_anew_and_both_are_told(real_site: Site, state: Path, name: str) -> None:
    with Thief(state, name) as thief, library.deployed(options(real_site, state, "etcd_nats_nats")) as up:
        deployment = up.deployment
        lost = {key: ports for by_name in deployment.lost_ports.values() for key, ports in by_name.items()}
        assert lost.get(name) == [thief.stolen[name]]
        service = next(one for one in deployment.services if one.name == name.partition(".")[0])
        assert service.leased[name] != thief.stolen[name]
        # Who was told of the first port has been told of the second.
        body = {"model": MODEL, "prompt": "Ready?", "max_tokens": 1}
        wait_for(lambda: up.ask(body, path="/v1/completions", timeout_seconds=30).status == 200, "an answer")
        run_id = deployment.run_id
    assert node_state.run_processes(run_id) == []


def test_what_is_declared_for_later_is_not_there_yet(real_site: Site, state: Path) -> None:
    asked = Options(
        test_case="test_dynamo_router",
        inventory=real_site.inventory,
        results=real_site.results,
        extra_vars={"disagg_state_dir": str(state)},
    )
    with library.deployed(asked, TrialName(MODEL, "kv_zmq")) as up:
        (later,) = up.deployment.later
        assert (later.started, later.pid, later.ready_at) == (False, 0, None)
        found = node_state.run_processes(up.deployment.run_id)
        assert later.name not in {process["service"] for process in found}
        assert {service.name for service in up.deployment.running} <= {process["service"] for process in found}
