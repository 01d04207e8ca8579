"""What of a lab is up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from pyharness.lab import description, hosts, registry
from pyharness.lab.model import NAME_LABEL

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from pyharness.lab.model import Lab


def status(client: DockerClient, lab: Lab) -> dict[str, Any]:
    """Return what of a lab is up.

    Args:
        client: the Docker engine.
        lab: the lab.

    Returns:
        `up`: whether all of it is; `hosts`: each with `name`, `address`, `state` (of its container), `ssh` (ok, or what
        ssh says), `docker` (the version of the engine inside, empty if there is none); `registry`: its address and
        whether it answers; `image`: the image of services and whether the registry serves it; `engine`.
    """
    known = description.read(lab)
    others = client.containers.list(all=True, filters={"label": f"{NAME_LABEL}={lab.name}"}, ignore_removed=True)
    addresses = dict(lab.hosts)
    for container in others:
        if container.name != lab.registry_name:
            addresses.setdefault(container.name, hosts.address_of(lab, container))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda item: _host(client, lab, *item), sorted(addresses.items())))
    repository, _, digest = str(known.get("image", "")).partition("@")
    served = bool(digest) and registry.serves(lab, repository.partition("/")[2], digest) == digest
    answers = registry.answers(lab)
    own = [host for host in found if host["name"] in lab.hosts]
    return {
        "up": served and answers and all(host["ssh"] == "ok" for host in own),
        "engine": known.get("engine"),
        "hosts": found,
        "registry": {"address": lab.registry, "answers": answers},
        "image": {"reference": known.get("image"), "served": served},
    }


def _host(client: DockerClient, lab: Lab, name: str, address: str) -> dict[str, str]:
    container = hosts.get(client, name)
    state = container.status if container else "absent"
    if container is None or state != "running":
        return {"name": name, "address": address, "state": state, "ssh": "-", "docker": "-"}
    refusal = hosts.lets_in(lab, address)
    return {"name": name, "address": address, "state": state, "ssh": refusal or "ok", "docker": _docker(container)}


def _docker(container: Container) -> str:
    try:
        code, output = container.exec_run(["docker", "version", "--format", "{{.Server.Version}}"])
    except APIError:
        return "none"
    return str(output.decode().strip()) if code == 0 else "none"


def table(found: dict[str, Any]) -> str:
    """Return `status` for a person."""
    rows = [("host", "address", "state", "ssh", "docker")]
    rows += [tuple(host[key] for key in ("name", "address", "state", "ssh", "docker")) for host in found["hosts"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    answers = "answers" if found["registry"]["answers"] else "does not answer"
    served = "served" if found["image"]["served"] else "not served"
    lines += [
        f"registry  {found['registry']['address']} {answers}",
        f"image     {found['image']['reference'] or 'none'} {served}",
        f"engine    {found['engine'] or 'none'}",
        "the lab is up" if found["up"] else "the lab is not up; bring it up with: python -m pyharness lab up",
    ]
    return "\n".join(lines) + "\n"
