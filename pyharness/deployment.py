"""What Ansible says it deployed: the only thing that it hands to Python (role `deployment` writes it)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pyharness import redaction

if TYPE_CHECKING:
    from pathlib import Path


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Service(_Part):
    """One process or container that was started on a node. `pid` is its first process, as the node sees it."""

    name: str
    kind: str
    node: str
    address: str
    port: int
    url: str
    ready_url: str
    ready_timeout: float
    hang_timeout: float
    pid: int
    started_at: float
    ready_at: float | None
    command: list[str]
    environment: dict[str, str]
    log: str
    run_dir: str
    container: dict[str, Any] | None = None
    # Files below /dev/shm that it had mapped when it was ready.
    shared_memory: list[str] = []
    # Doors besides `url`, by name: ADDRESS:PORT or a URL.
    endpoints: dict[str, str] = {}
    # Declared only, where it is not: a check may start it later.
    started: bool = True
    # The ports that it listens on and that the run has leased, by the names of the leases.
    leased: dict[str, int] = {}


class Model(_Part):
    """The model that is served."""

    name: str
    path: str
    revision: str | None
    config: dict[str, Any] | None
    stand_in: dict[str, Any] | None
    cached: bool | None = None


class Engine(_Part):
    """What serves it."""

    name: str
    platform: str
    runtime: str
    environment: str


class Wheel(_Part):
    """The wheel under test."""

    file: str
    sha256: str
    version: str
    source: str
    package: str
    directory: str
    origin: str = ""


class Image(_Part):
    """The image of its containers: as it was asked for, and as the registry's digest."""

    ref: str
    digest: str | None


class Transport(_Part):
    """What the case declares, and what it asks for on this inventory."""

    declared: str
    requested: str


class Reference(_Part):
    """What one engine alone answers."""

    method: str
    answer: dict[str, Any] | None = None


class Deployment(_Part):
    """One deployment: of one model, or of what serves none, in one variant where the case has variants."""

    schema_version: int
    run_id: str
    test_case: str
    engine: Engine
    runtime: str
    image: Image | None = None
    model: Model | None
    variant: str | None = None
    workload: dict[str, Any] = {}
    entry: str
    transport: Transport
    wheel: Wheel
    reference: Reference
    nodes: list[str]
    services: list[Service]
    # By node and name: ports that were leased and lost to another program before the start went well.
    lost_ports: dict[str, dict[str, list[int]]] = {}

    @property
    def simulated(self) -> bool:
        """Whether the engine is simulated, so that nothing follows for a product. Mooncake itself is always real."""
        return self.engine.platform == "simulator" and self.engine.name != "mooncake"

    @property
    def served(self) -> Model:
        """The model, for checks of services that serve one.

        Raises:
            ValueError: this deployment serves none.
        """
        if self.model is None:
            message = f"the deployment of {self.test_case} serves no model"
            raise ValueError(message)
        return self.model

    def of_kind(self, kind: str) -> list[Service]:
        """Return the services of one kind, such as prefill."""
        return [service for service in self.services if service.kind == kind]

    @property
    def running(self) -> list[Service]:
        """The services that deploying has started."""
        return [service for service in self.services if service.started]

    @property
    def later(self) -> list[Service]:
        """The services that are declared only, for a check to start."""
        return [service for service in self.services if not service.started]

    @property
    def started_at(self) -> float:
        """When the first service was started, in seconds since the epoch."""
        return min(service.started_at for service in self.running)

    @property
    def ready_at(self) -> float:
        """When the last service was ready, in seconds since the epoch; its start where that is not known."""
        return max(service.ready_at or service.started_at for service in self.running)


def read(path: Path) -> Deployment:
    """Read a deployment.

    Raises:
        OSError: the file is not there.
        ValueError: it is not what this version of the harness understands.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    # As Ansible has resolved them: environments with values from a vault or from its controller's environment.
    redaction.learn_variables(document if isinstance(document, dict) else {})
    return Deployment.model_validate(document)
