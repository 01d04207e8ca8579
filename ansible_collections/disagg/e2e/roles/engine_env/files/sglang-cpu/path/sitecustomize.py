"""Prepare a Python process that imports SGLang 0.5.23 on a machine without a GPU.

Python imports this module by itself at start-up when the folder that holds it is on ``PYTHONPATH``, and
processes that SGLang spawns inherit that. Nothing happens until ``sglang`` is imported: the router and pip
run here undisturbed.

Next to it lie stand-ins for packages that SGLang imports and that have no build for this machine
(``sgl_kernel``, ``triton``), or that it needs for a single name (``IPython``), SGLang's external model package
``sglang_cpu_ext`` and its plugins ``sglang_cpu_plugin`` and ``sglang_cpu_collectives``. All of them were written
against one version of SGLang; with another one they would break in ways that are hard to read.
"""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

SUPPORTED_VERSION = "0.5.23"


class BeforeSglang(MetaPathFinder):
    """Acts once, at the first import of ``sglang``, and finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Check and prepare when ``sglang`` is looked for.

        Args:
            fullname: Module that is being imported.
            path: Not used.
            target: Not used.

        Returns:
            Always None, so that the import goes on as usual.

        Raises:
            SystemExit: The installed SGLang has another version than these stand-ins.
        """
        del path, target
        if fullname == "sglang":
            sys.meta_path.remove(self)
            check_version()
            # A sixth of the import's time goes into collections that find nothing, as modules are no garbage.
            # The plugin (sglang_cpu_plugin.py) switches them on again as soon as the modules are there.
            gc.disable()
            keep_torchvision_importable()
            hide_triton_from_torch()
        return None


def check_version() -> None:
    """End the process unless the installed SGLang is the one that the stand-ins were written for.

    Raises:
        SystemExit: With one line that says what is wrong, where, and what to do.
    """
    try:
        version = importlib.metadata.version("sglang")
    except importlib.metadata.PackageNotFoundError:
        version = "without metadata"
    if version != SUPPORTED_VERSION:
        message = (
            f"sglang-cpu: the SGLang in {sys.prefix} is {version}, the CPU stand-ins in {__file__} are for "
            f"{SUPPORTED_VERSION}: install sglang=={SUPPORTED_VERSION} there, or adapt the stand-ins"
        )
        raise SystemExit(message)


def keep_torchvision_importable() -> None:
    """Skip the part of torchvision that fails beside a CPU torch.

    torchvision from PyPI is a CUDA build. Its operators do not load here, and ``_meta_registrations``, which
    describes them to torch, ends the import with "operator torchvision::nms does not exist". SGLang imports
    torchvision at the top of configurations for image models (``srt/configs/deepseek_ocr.py``,
    ``srt/multimodal/internvl_utils.py``).
    """
    name = "torchvision._meta_registrations"
    sys.modules[name] = ModuleType(name)


def hide_triton_from_torch() -> None:
    """Let torch know that no triton is installed, or it would look for the compiler behind the stand-in."""
    import torch.utils._triton  # noqa: PLC0415 - torch must not be imported in processes that do not need it

    vars(torch.utils._triton)["has_triton_package"] = lambda: False  # noqa: SLF001 - no public switch exists


sys.meta_path.insert(0, BeforeSglang())
