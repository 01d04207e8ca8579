"""The file that tells inventories of a lab that is up: lab.yml."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pyharness.lab.model import Lab
    from pyharness.lab.service_image import ServiceImage


def describe(lab: Lab, engine: str, service: ServiceImage, digest: str, host_image: str) -> dict[str, Any]:
    """Return what lab.yml says; its keys are explained in docs/lab.md.

    Args:
        lab: the lab.
        engine: simulator or sglang.
        service: the image of services.
        digest: its digest in the registry.
        host_image: id of the image of hosts.
    """
    return {
        "engine": engine,
        "platform": service.platform,
        "image": f"{lab.registry}/{service.repository}@{digest}",
        "registry": lab.registry,
        "mounts": list(service.mounts),
        "pythonpath": list(service.pythonpath),
        "environment": {},
        "hosts": lab.hosts,
        "host_image": host_image,
    }


def write(lab: Lab, content: dict[str, Any]) -> None:
    """Write lab.yml, unless it says the same already."""
    known = read(lab)
    known.pop("created", None)
    if known == content:
        return
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fresh = lab.description.with_name(f"{lab.description.name}.{os.getpid()}")
    fresh.write_text(yaml.safe_dump(content | {"created": created}, sort_keys=False))
    fresh.replace(lab.description)


def read(lab: Lab) -> dict[str, Any]:
    """Return what lab.yml says; empty if the lab is not up."""
    return dict(yaml.safe_load(lab.description.read_text())) if lab.description.is_file() else {}
