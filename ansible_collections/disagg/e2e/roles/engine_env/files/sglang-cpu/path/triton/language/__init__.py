"""Stand-in for ``triton.language``, whose names occur in kernels that never run."""

from typing import Any


class constexpr:  # noqa: N801 - the name is triton's
    """A constant of a kernel; modules build some while they load."""

    def __init__(self, value: object = None) -> None:
        """Keep the value, which host code may read back.

        Args:
            value: The constant.
        """
        self.value = value


class dtype:  # noqa: N801 - the name is triton's
    """A type of the language. Modules use it in annotations and as keys of tables."""


def __getattr__(name: str) -> Any:
    """Give every other name of the language: as good as any for code that is never compiled.

    Args:
        name: Attribute that is asked for.

    Raises:
        AttributeError: Python asks for one of its own special names.
    """
    if name.startswith("__"):
        raise AttributeError(name)
    return dtype()
