"""Stand-in for triton, which weighs 1 GB and compiles kernels for GPUs only.

SGLang 0.5.23 imports triton at the top of more than a hundred modules and decorates its GPU kernels while
they load. On a CPU none of them is called: the attention backend ``torch_native`` is plain torch. So every
decorator and every name of the language has to import, and no kernel has to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

# torch, and modules that say only "import triton", reach the language as an attribute.
from triton import language as language

if TYPE_CHECKING:
    from collections.abc import Callable

__version__ = "3.0.0"  # Modules compare it to choose between names of the language; any version does.


class Kernel:
    """A decorated GPU kernel: it can be passed around and decorated further, not run."""

    def __init__(self, function: Callable[..., Any] | Kernel) -> None:
        """Keep the decorated function for its name and source.

        Args:
            function: What the decorator was put on.
        """
        self.fn = function
        self.__name__: str = getattr(function, "__name__", "kernel")

    def __getitem__(self, _grid: object) -> Kernel:
        """Accept ``kernel[grid]``, the form in which kernels are launched."""
        return self

    def __call__(self, *_arguments: object, **_options: object) -> NoReturn:
        """Refuse.

        Raises:
            NotImplementedError: Always; a kernel that silently did nothing would give wrong answers.
        """
        message = f"triton is a stand-in here: the GPU kernel {self.__name__} cannot run on a CPU"
        raise NotImplementedError(message)


def jit(function: Callable[..., Any] | None = None, **_options: object) -> Any:
    """Stand in for ``@triton.jit`` and ``@triton.jit(...)``.

    Args:
        function: The kernel, or None in the form with brackets.
    """
    return Kernel if function is None else Kernel(function)


def autotune(*_arguments: object, **_options: object) -> type[Kernel]:
    """Stand in for ``@triton.autotune(...)``."""
    return Kernel


heuristics = autotune


class Config:
    """One choice of ``autotune``, built while a module loads and never read."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Accept whatever describes the choice."""


def cdiv(dividend: int, divisor: int) -> int:
    """Divide and round up. Host code computes sizes with it.

    Args:
        dividend: Number to divide.
        divisor: Number to divide by.
    """
    return -(dividend // -divisor)


def next_power_of_2(number: int) -> int:
    """Return the smallest power of two that is not below the number. Host code computes sizes with it.

    Args:
        number: A positive number.
    """
    return 1 << (number - 1).bit_length()
