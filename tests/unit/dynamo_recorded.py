"""What a real Dynamo 1.6.1 answered, and deployments of it, for tests of the checks that read it.

Recorded from a frontend with two simulated engines (speed 0.06, room for 8000 tokens, deadline of 2 s), and from
dynamo.indexer: data/dynamo_1_6_1.json.
"""

from __future__ import annotations

import json
import struct
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from pyharness import case
from pyharness.deployment import Service
from pyharness.engines.dynamo import Dynamo
from pyharness.exercise import Exchange
from pyharness.streamed import Event, Streamed
from pyharness.verification.base import Recorder
from tests.unit.builders import FakeNodes, make_deployment, make_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.verification.base import Trial

MODEL = "Qwen/Qwen3-8B"
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "dynamo_1_6_1.json").read_text())


def exchange(name: str, **changes: Any) -> Exchange:
    """Return a recorded exchange."""
    return made({**RECORDED["exchanges"][name], **changes})


def made(entry: dict[str, Any]) -> Exchange:
    """Return an exchange from what was recorded of it."""
    return Exchange(**{"request": None, **entry})


def answering(document: Any, status: int = 200, seconds: float = 0.1) -> Exchange:
    """Return an exchange that was answered so."""
    return Exchange("POST", "/v1/completions", None, status, {}, json.dumps(document), None, seconds)


def document(name: str) -> Any:
    """Return a recorded answer as JSON, for a test to change."""
    return json.loads(RECORDED["exchanges"][name]["body"])


def stream(name: str, events: list[str] | None = None, **changes: Any) -> Streamed:
    """Return a recorded stream, or with other events than it had."""
    entry = RECORDED["streams"][name]
    data = entry["events"] if events is None else events
    told = Streamed(
        url=entry["url"],
        request={},
        status=entry["status"],
        headers={},
        body=entry["body"],
        events=tuple(Event(one, "message", 100.0 + place / 100) for place, one in enumerate(data)),
        ending=entry["ending"],
        problem=entry["problem"],
        started=99.9,
        seconds=2.02,
    )
    return replace(told, **changes)


def events_of(name: str) -> list[str]:
    """Return the data of a recorded stream's events, for a test to change."""
    return list(RECORDED["streams"][name]["events"])


class Living(FakeNodes):
    """Nodes whose services all live on, unless a test says otherwise."""

    def current(self, service: Service) -> Service | None:
        """Answer as `Nodes.current` does."""
        return service if service.pid and service.name not in self.dead else None


def service(name: str, kind: str, url: str, **changes: Any) -> Service:
    """Return a service of Dynamo."""
    values: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "node": "one",
        "address": "127.0.0.41",
        "port": 1,
        "url": url,
        "ready_url": f"{url}/health",
        "ready_timeout": 5.0,
        "hang_timeout": 2.0,
        "pid": 100,
        "started_at": 1000.0,
        "ready_at": 1001.0,
        "command": ["python3", "-m", "dynamo.mocker" if kind in ("worker", "prefill", "decode") else f"dynamo.{kind}"],
        "environment": {},
        "log": f"/var/log/{name}.log",
        "run_dir": "/run/it",
    }
    return Service.model_validate({**values, **changes})


def trial(name: str, services: list[Service], nodes: FakeNodes | None = None, **changes: Any) -> Trial:
    """Return a trial of one of Dynamo's cases.

    Args:
        name: the case; its own workload is taken, with `workload` in its place.
        services: what is deployed; the first is the frontend.
        nodes: where.
        changes: of the trial; `workload` and `variant` of the deployment.
    """
    declared = case.load(name)
    deployment = make_deployment(
        test_case=name,
        model={"name": MODEL, "path": "/model", "revision": None, "config": None, "stand_in": None},
        entry=services[0].url,
        variant=changes.pop("variant", declared.variants[0].name),
        workload={**declared.workload, **changes.pop("workload", {})},
        services=[one.model_dump() for one in services],
    )
    return make_trial(
        nodes or Living({}), deployment, case=declared, engine=Dynamo(), recorder=Recorder(MODEL, []), **changes
    )


@contextmanager
def publishing(frames: list[tuple[int, bytes]], *, end: bool = True) -> Iterator[str]:
    """Replay events as a worker does, to whoever asks. Yields the endpoint.

    Args:
        frames: sequence numbers and payloads; more may be put in later.
        end: whether the end is marked.
    """
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            if not router.poll(20):
                continue
            client, *_empty, first = router.recv_multipart()
            (start,) = struct.unpack(">q", first)
            for number, payload in list(frames):
                if number >= start:
                    router.send_multipart([client, b"", b"", struct.pack(">q", number), payload])
            if end:
                router.send_multipart([client, b"", b"", struct.pack(">q", -1), b""])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        over.set()
        thread.join()
        router.close()
        context.term()


def frames(worker: str) -> list[tuple[int, bytes]]:
    """Return what a recorded worker had published."""
    return [(number, bytes.fromhex(payload)) for number, payload in RECORDED["replay"][worker]]
