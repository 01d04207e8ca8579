"""What has to be known of each engine to judge it: its requests, its counters, how it names its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.engines.dynamo import Dynamo
from pyharness.engines.mooncake import Mooncake
from pyharness.engines.sglang import SGLang
from pyharness.engines.vllm import VLLM
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from pyharness.engines.base import Engine

_ENGINES: dict[str, type[Engine]] = {"dynamo": Dynamo, "mooncake": Mooncake, "sglang": SGLang, "vllm": VLLM}


def engine(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        UsageError: the harness does not know it.
    """
    if name not in _ENGINES:
        raise UsageError(f"engine: {name!r} is not one that the harness knows ({', '.join(sorted(_ENGINES))})")
    return _ENGINES[name]()
