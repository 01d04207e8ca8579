"""What a deployment says of itself, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import versions

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyharness.deployment import Deployment
    from pyharness.results import ModelResult, Report
    from pyharness.verification.node_probe import Nodes


def fill_in(
    report: Report, result: ModelResult, deployment: Deployment, nodes: Nodes, packages: Collection[str] = ()
) -> bool:
    """Put into the report what was deployed.

    Args:
        report: the run's.
        result: the trial that was deployed.
        deployment: what Ansible says of it.
        nodes: where the versions are looked up, once per run.
        packages: distributions of the engine's environment whose versions are wanted besides.

    Returns:
        whether it was the first deployment of the run.

    Raises:
        NodeError: a node cannot be asked.
    """
    wheel = deployment.wheel
    report.engine = deployment.engine.model_dump()
    report.simulated, report.runtime = deployment.simulated, deployment.runtime
    report.transport.requested = deployment.transport.requested
    report.artifacts["wheel"] = {
        "file": Path(wheel.file).name,
        "sha256": wheel.sha256,
        "source": wheel.source,
        "origin": wheel.origin or None,
    }
    if deployment.image is not None:
        report.artifacts["image"] = deployment.image.model_dump()
    if deployment.model is not None:
        result.served = deployment.model.model_dump(include={"path", "revision", "stand_in"})
    report.timing.engine_start += deployment.ready_at - deployment.started_at
    first = not report.versions
    if first:
        report.versions = versions.of(deployment, nodes, packages)
    return first
