"""vLLM's CPU platform, with processes that are forked instead of spawned.

vLLM finds it by the entry point in ``vllm_cpu_ext-1.0.dist-info`` and takes it in place of its own
(``resolve_current_platform_cls_qualname`` in ``vllm/platforms/__init__.py``).

Fork is vLLM's own default (``VLLM_WORKER_MULTIPROC_METHOD`` in ``vllm/envs.py``); only its CPU platform sets spawn. A
forked process has all the modules that a spawned one imports anew, which is nearly all that a start-up does with a
small model: a server is ready in 13 s instead of 25 s. The processes remain processes of their own that do the
same work.
"""

import gc
import os
from typing import Any

from vllm.platforms.cpu import CpuPlatform


def name() -> str:
    """Return the platform's name, as vLLM's plugins of this kind do."""
    return f"{__name__}.{ForkingCpuPlatform.__name__}"


class ForkingCpuPlatform(CpuPlatform):
    """The stock platform, less its choice of spawn."""

    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        """Do what the stock platform does, then choose fork and resume the garbage collection.

        vLLM calls this whenever it completes a configuration, for the first time right before it starts the engine.

        Args:
            vllm_config: vLLM's configuration, completed in place.
        """
        super().check_and_update_config(vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        if not gc.isenabled():
            # What has been imported is left out of all collections to come, so that they neither walk through it
            # nor write to memory that the processes share.
            gc.freeze()
            gc.enable()
