"""Stand-in for SGLang's kernel library, which has no build for this CPU.

On a CPU, SGLang 0.5.23 imports these names at the top of modules that every server loads
(``srt/mem_cache/allocation.py``, ``kernels/ops/kvcache/cache_move.py``, ``kernels/ops/speculative/*.py``).
With the attention backend ``torch_native`` and neither speculative decoding nor page moves it calls none of
them. Whatever else is asked for imports too, and says its name when called.
"""

from typing import NoReturn

__version__ = "0.4.10"  # The version that SGLang 0.5.23 asks for (sglang-kernel==0.4.10 in its metadata).


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
