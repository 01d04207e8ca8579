"""A service under a supervisord as in a run, and a trial around it, so that faults can be made without a deployment.

The service is the simulator: a real server with real streams, which can be told to misbehave.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import testinfra

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import Supervisor
from pyharness import exercise, faults, paths, results
from pyharness.simulator.model import ARCHITECTURES, write_model
from pyharness.streaming import Stream
from pyharness.verification.base import CheckFailed
from pyharness.verification.node_probe import Nodes
from pyharness.verification.waiting import until
from tests.unit.builders import make_deployment, make_report, make_service, make_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyharness.deployment import Service
    from pyharness.fault_record import FaultRecord
    from pyharness.results import Failure
    from pyharness.verification.base import Trial

_READY_SECONDS = 20.0
# Ends at once while there is a file `broken` in its folder.
_COMMAND = 'if [ -e "$0/broken" ]; then echo no more; exit 3; fi; exec "$@"'


class LocalNodes(Nodes):
    """Nodes that are all this machine."""

    def host(self, _name: str) -> testinfra.host.Host:
        return testinfra.get_host("local://")


@dataclass
class FaultBench:
    """Services that faults are made to.

    Attributes:
        folder: the run's directory.
        model: the simulator's model.
        noted: what was written into the journal.
        happened: what was put on the timeline.
        run: the run's id.
    """

    folder: Path
    model: Path
    noted: list[dict[str, Any]] = field(default_factory=list)
    happened: list[tuple[str, str]] = field(default_factory=list)
    # Of its own: what ends one bench must not end another's services.
    run: str = field(default_factory=results.new_run_id)

    def __post_init__(self) -> None:
        self._marks = {node_state.RUN_VARIABLE: self.run, node_state.NODE_VARIABLE: "one"}
        self.supervisor = Supervisor(str(self.folder))
        self.supervisor.write_config()
        environment = {**os.environ, **self._marks, node_state.SERVICE_VARIABLE: "supervisord"}
        program = str(Path(sys.executable).with_name("supervisord"))
        command = [program, "-c", str(self.supervisor.config)]
        subprocess.run(command, check=True, capture_output=True, timeout=30, env=environment)
        assert self.supervisor.wait_up(10)
        nodes: Any = LocalNodes(Path("nowhere"))
        self.trial: Trial = make_trial(
            nodes,
            make_deployment(run_id=self.run),
            note=lambda event, **fields: self.noted.append({"event": event, **fields}),
            happened=lambda kind, text, **_details: self.happened.append((kind, text)),
        )

    @property
    def broken(self) -> Path:
        """The file that keeps a service from starting again."""
        return self.folder / "broken"

    @property
    def record(self) -> FaultRecord:
        """The record of the last fault."""
        return self.trial.faults[-1]

    def steps(self) -> dict[str, str]:
        """Return how each step of the last fault went."""
        return {step.step: step.status for step in self.record.steps}

    def service(self, *misbehave: str, name: str = "prefill", started: bool = True) -> Service:
        """Declare a service, and start it and wait until it is ready."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve = [sys.executable, "-m", "pyharness.simulator", "serve", "--role", "single", "--host", "127.0.0.1"]
        serve += ["--port", str(port), "--model-path", str(self.model), "--served-model-name", "tiny"]
        serve += [word for key in misbehave for word in ("--misbehave", key)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(paths.PROJECT), **self._marks}
        log = str(self.folder / f"{name}.log")
        self.supervisor.write_program(
            name,
            {
                "command": ["/bin/sh", "-c", _COMMAND, str(self.folder), *serve],
                "environment": {**environment, node_state.SERVICE_VARIABLE: name},
                "directory": str(self.folder),
                "log": log,
                "stop_signal": "KILL",
                "stop_grace": 1,
            },
        )
        program = self.supervisor.programs / f"{name}.conf"
        program.write_text(program.read_text().replace("autostart=true", f"autostart={str(started).lower()}"))
        self.supervisor.rpc.reloadConfig()
        self.supervisor.rpc.addProcessGroup(name)
        found = self.supervisor.status(name)
        assert found is not None
        url = f"http://127.0.0.1:{port}"
        pid = found["pid"]
        seen = node_state.process(pid) if pid else None
        made = make_service(
            "prefill",
            name=name,
            pid=pid,
            started_at=seen["started_at"] if seen else 0.0,
            ready_at=None,
            run_dir=str(self.folder),
            log=log,
            address="127.0.0.1",
            port=port,
            url=url,
            ready_url=f"{url}/health",
            ready_timeout=_READY_SECONDS,
        )
        if started:
            ready, _waited = until(lambda: exercise.get(made.ready_url, 1.0).status == 200, _READY_SECONDS)
            assert ready, Path(log).read_text()
        return made

    def end(self) -> None:
        """End all, stopped or not."""
        for left in node_state.run_processes(self.run):
            os.kill(left["pid"], 9)


def ask(service: Service, tokens: int = 8, **options: Any) -> Stream:
    """Begin a stream of so many tokens."""
    body = {"prompt": "a b c", "max_tokens": tokens, "ignore_eos": True}
    return Stream(f"{service.url}/v1/completions", body, **{"total_seconds": 30.0, **options})


def judged(bench: FaultBench, made: Callable[[], object]) -> tuple[str, Failure]:
    """Make a fault as a check does. Returns the verdict that follows, and the first failure."""

    def check() -> dict[str, Any]:
        made()
        return {}

    bench.trial.recorder.run("service_lost", check)
    failures = bench.trial.recorder.failures
    return make_report(failures=failures).judge(), failures[-1]


def hold(bench: FaultBench, fault: faults.Fault, block: Callable[[], object] = lambda: None, **options: Any) -> None:
    """Have a fault while a block runs."""
    with faults.injected(bench.trial, fault, **options):
        block()


def lost() -> None:
    """Find a failure of the product."""
    raise CheckFailed("the request was lost", hint="none")


def is_up(service: Service) -> bool:
    """Tell whether a service answers."""
    return exercise.get(service.ready_url, 2.0).status == 200


@pytest.fixture(scope="session")
def fault_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model for the simulator."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_model(next(iter(ARCHITECTURES)), 0, folder)
    return folder


@pytest.fixture
def faults_at(fault_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultBench]:
    """Return a bench without a service."""
    bench = FaultBench(tmp_path_factory.mktemp("f"), fault_model)
    yield bench
    bench.end()
    assert until(lambda: not node_state.run_processes(bench.run), 5)[0]
