"""SGLang plugin: start the scheduler and the detokenizer by fork instead of spawn.

SGLang finds it by the entry point in ``sglang_cpu_ext-1.0.dist-info`` and runs it before the server starts
(``load_plugins`` in ``srt/plugins/__init__.py``).

SGLang spawns its workers because a process that has used CUDA must not fork. Without a GPU nothing stands
against it: the launcher has one thread and no socket at that point. A forked worker has all the modules
that a spawned one imports anew, which is nearly all that its start-up does: two servers need 12 s of
processor time until they answer instead of 35 s, and 0.8 GB each instead of 1.3 GB. The workers remain
processes of their own that do the same work.
"""

import gc
import multiprocessing

from sglang.srt.plugins.hook_registry import HookRegistry, HookType


def fork_workers() -> None:
    """Hook the function in which SGLang chooses the start method, right before it starts the workers."""
    HookRegistry.register("sglang.srt.entrypoints.engine._set_envs_and_config", use_fork, HookType.AFTER)


def use_fork(_result: None, *_arguments: object, **_options: object) -> None:
    """Choose fork as the way to start processes, and resume the garbage collection.

    Args:
        _result: What the hooked function returned: nothing.
        _arguments: The hooked function's arguments, not used.
        _options: The hooked function's arguments, not used.
    """
    multiprocessing.set_start_method("fork", force=True)
    # What has been imported is left out of all collections to come, so that they neither walk through it nor
    # write to memory that the workers share.
    gc.freeze()
    gc.enable()
