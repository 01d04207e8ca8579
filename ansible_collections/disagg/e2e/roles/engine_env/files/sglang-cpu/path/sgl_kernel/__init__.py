"""Stand-in for SGLang's kernel library, which has no build for this CPU.

On a CPU, SGLang 0.5.23 imports these names at the top of modules that every server loads
(``srt/mem_cache/allocation.py``, ``kernels/ops/kvcache/cache_move.py``, ``kernels/ops/speculative/*.py``).
With the attention backend ``torch_native`` and neither speculative decoding nor page moves it calls none of
them. Whatever else is asked for imports too, and says its name when called.

Some of the library's kernels are reached as operators of torch (``torch.ops.sgl_kernel``). SGLang asks whether certain
ones exist to choose its way on a CPU, so only those are put there that modules fetch while they load: the processors
of pictures cannot be imported without (``srt/models/qwen3_5.py``).
"""

from typing import NoReturn

import torch

__version__ = "0.4.10"  # The version that SGLang 0.5.23 asks for (sglang-kernel==0.4.10 in its metadata).

OPERATORS_FETCHED_WHILE_LOADING = (
    "fused_sigmoid_mul_cpu",
    "fused_qk_gemma_rmsnorm_cpu",
    "fused_qk_gemma_rmsnorm_with_gate_cpu",
    "fused_qkvzba_split_reshape_cat_contiguous_cpu",
)


class MissingKernel:
    """Takes a kernel's place until it is called."""

    def __init__(self, name: str) -> None:
        """Remember which kernel is missing.

        Args:
            name: The kernel's name.
        """
        self.name = name

    def __call__(self, *_arguments: object, **_options: object) -> NoReturn:
        """Refuse.

        Raises:
            NotImplementedError: Always; a kernel that silently did nothing would give wrong answers.
        """
        message = f"sgl_kernel is a stand-in here: the kernel {self.name} has no implementation for this CPU"
        raise NotImplementedError(message)


def __getattr__(name: str) -> MissingKernel:
    """Give every kernel that is imported by name.

    Args:
        name: Attribute that is asked for.

    Raises:
        AttributeError: Python asks for one of its own special names.
    """
    if name.startswith("__"):
        raise AttributeError(name)
    return MissingKernel(name)


for operator in OPERATORS_FETCHED_WHILE_LOADING:
    setattr(torch.ops.sgl_kernel, operator, MissingKernel(operator))
