"""Prepare a Python process that imports vLLM 0.32.0 on a machine without a GPU.

Python imports this module by itself at start-up when the folder that holds it is on ``PYTHONPATH``, and
processes that vLLM starts inherit that. Nothing happens until ``vllm`` is imported: the proxy and pip run here
undisturbed.

Next to it lie the platform ``vllm_cpu_platform`` and the connector ``vllm_cpu_connector``. Both were written
against one version of vLLM; with another one they would break in ways that are hard to read.
"""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# The distribution of vLLM's own builds for CPUs; its import name is vllm.
DISTRIBUTION = "vllm-cpu"
SUPPORTED_VERSION = "0.32.0"


class BeforeVllm(MetaPathFinder):
    """Acts once, at the first import of ``vllm``, and finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Check and prepare when ``vllm`` is looked for.

        Args:
            fullname: Module that is being imported.
            path: Not used.
            target: Not used.

        Returns:
            Always None, so that the import goes on as usual.

        Raises:
            SystemExit: The installed vLLM has another version than what lies beside this file.
        """
        del path, target
        if fullname == "vllm":
            sys.meta_path.remove(self)
            check_version()
            # A fifth of the import's time goes into collections that find nothing, as modules are no garbage.
            # The platform (vllm_cpu_platform.py) switches them on again as soon as the modules are there.
            gc.disable()
        return None


def check_version() -> None:
    """End the process unless the installed vLLM is the one that platform and connector were written for.

    Raises:
        SystemExit: With one line that says what is wrong, where, and what to do.
    """
    try:
        version = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    if version != SUPPORTED_VERSION:
        message = (
            f"vllm-cpu: {DISTRIBUTION} in {sys.prefix} is {version}, and what adapts it in {__file__} is for "
            f"{SUPPORTED_VERSION}: install {DISTRIBUTION}=={SUPPORTED_VERSION} there, or adapt it"
        )
        raise SystemExit(message)


sys.meta_path.insert(0, BeforeVllm())
