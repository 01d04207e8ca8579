"""An engine's Python environment on this machine, built by the project's own role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyharness import environments
from pyharness.environments import Environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.lab.model import Lab

__all__ = ["INVENTORIES", "Environment", "have"]

# The inventory of this machine that names an engine's environment, and the folder that describes it.
INVENTORIES: Final = {"simulator": "simulator", "sglang": "local"}
_FOLDERS: Final = {"simulator": "simulator", "sglang": "sglang-cpu"}


def have(lab: Lab, engine: str, tell: Callable[[str], None]) -> Environment:
    """Have an engine's environment in the cache.

    Args:
        lab: keeps what was found out.
        engine: simulator or sglang.
        tell: told what takes long.

    Raises:
        UsageError: it could not be built.
    """
    return environments.have(_FOLDERS[engine], lab.cache, lab.state_dir, tell, INVENTORIES[engine])
