"""SGLang plugin: let ``--elastic-ep-backend mooncake`` use Mooncake's process group on a CPU.

SGLang finds it by the entry point in ``sglang_cpu_ext-1.0.dist-info`` and runs it before the server starts.

Mooncake registers two backends with torch.distributed: ``mooncake`` for tensors on GPUs and ``mooncake-cpu`` for those
in memory. SGLang 0.5.23 takes Mooncake on a cuda device only (``_resolve_backend`` in
``srt/distributed/bootstrap.py``). Without this plugin the option is accepted on a CPU, Mooncake's transfer engine is
started, and all collectives go through gloo: nothing says so. With it they go through ``mooncake-cpu``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed
from sglang.srt.plugins.hook_registry import HookRegistry, HookType

if TYPE_CHECKING:
    from collections.abc import Callable

MOONCAKE, MOONCAKE_ON_CPU = "mooncake", "mooncake-cpu"


def choose_mooncake() -> None:
    """Hook the function in which SGLang chooses the backend of torch.distributed."""
    HookRegistry.register("sglang.srt.distributed.bootstrap._resolve_backend", resolve_backend, HookType.AROUND)


def resolve_backend(original: Callable[..., str], *arguments: Any, **options: Any) -> str:
    """Return Mooncake's backend for a CPU where elastic expert parallelism asks for Mooncake.

    Args:
        original: The hooked function.
        arguments: Its arguments.
        options: Its arguments by name; ``device`` is among them.
    """
    from sglang.srt.runtime_context import get_exec  # noqa: PLC0415 - known only when the server's options are

    if options.get("device") != "cpu" or get_exec().moe.elastic_ep_backend != MOONCAKE:
        return original(*arguments, **options)
    torch.distributed.new_group = with_mooncake_on_cpu(torch.distributed.new_group)
    return MOONCAKE_ON_CPU


def with_mooncake_on_cpu(new_group: Callable[..., Any]) -> Callable[..., Any]:
    """Return torch's function that makes a group, with the backend for a CPU in the place of that for GPUs.

    ``GroupCoordinator`` in ``srt/distributed/parallel_state.py`` names the one for GPUs where it makes the groups for
    tensors of the device.

    Args:
        new_group: The function as torch has it.
    """

    def make_group(*arguments: Any, **options: Any) -> Any:
        if options.get("backend") == MOONCAKE:
            options["backend"] = MOONCAKE_ON_CPU
        return new_group(*arguments, **options)

    return make_group
