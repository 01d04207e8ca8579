"""The images of services: a small one with the simulated engine, and one that finds the real engine in a mount."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import paths
from pyharness.lab import images
from pyharness.lab.model import ENVIRONMENTS_AT

if TYPE_CHECKING:
    from docker import DockerClient

    from pyharness.lab.environment import Environment
    from pyharness.lab.model import Lab

ENGINES = ("simulator", "sglang")
_FILES = Path(__file__).parent / "images"
_SIMULATOR = paths.PROJECT / "pyharness" / "simulator"


@dataclass(frozen=True)
class ServiceImage:
    """An image of services, and what a container of it needs.

    Attributes:
        image: its id.
        repository: its place in the registry.
        tag: its tag there.
        platform: what the inventories call it: simulator or cpu.
        mounts: SOURCE:TARGET:MODE, the source on the hosts.
        pythonpath: folders that have to be on PYTHONPATH.
    """

    image: str
    repository: str
    tag: str
    platform: str
    mounts: tuple[str, ...] = ()
    pythonpath: tuple[str, ...] = ()


def have(client: DockerClient, lab: Lab, base: str, engine: str, found: Environment) -> ServiceImage:
    """Have the image of an engine's services.

    Args:
        client: the Docker engine.
        lab: whose environments it uses.
        base: id of the base image.
        engine: simulator or sglang.
        found: the engine's environment on this machine.

    Raises:
        UsageError: the image could not be built.
    """
    recipe = _simulator(base, found) if engine == "simulator" else _sglang(lab, base, found)
    image = images.build(client, recipe)
    if engine == "simulator":
        return ServiceImage(image, recipe.name, recipe.key, "simulator")
    pythonpath = (_at(lab, found.path_dir),) if found.path_dir else ()
    mounts = (f"{ENVIRONMENTS_AT}:{ENVIRONMENTS_AT}:ro",)
    return ServiceImage(image, recipe.name, recipe.key, "cpu", mounts, pythonpath)


def _simulator(base: str, found: Environment) -> images.Recipe:
    sources = {
        f"packages/pyharness/{file.relative_to(_SIMULATOR.parent)}": file.read_bytes()
        for file in sorted(_SIMULATOR.rglob("*.py"))
    }
    return images.Recipe(
        "disagg/service-simulator",
        base,
        (_FILES / "Dockerfile.service-simulator").read_text(),
        {"packages/pyharness/__init__.py": (_SIMULATOR.parent / "__init__.py").read_bytes(), **sources},
        trees={"packages": found.packages},
        depends_on=(found.directory.name,),
    )


def _sglang(lab: Lab, base: str, found: Environment) -> images.Recipe:
    # As a virtual environment does: its packages, and what their own .pth files say.
    line = f"import site; site.addsitedir({_at(lab, found.packages)!r})\n"
    return images.Recipe(
        "disagg/service-sglang-cpu",
        base,
        (_FILES / "Dockerfile.service-sglang-cpu").read_text(),
        {"packages/disagg-environment.pth": line.encode()},
    )


def _at(lab: Lab, path: Path) -> str:
    """Return where something in this machine's environments is in hosts and containers."""
    return str(Path(ENVIRONMENTS_AT) / path.relative_to(lab.environments))
