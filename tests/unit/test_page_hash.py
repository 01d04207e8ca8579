"""Pages of the CPU environment have the names that SGLang's compiled function gives them."""

from __future__ import annotations

import importlib.util
import sys
from array import array
from types import ModuleType
from typing import Any

import pytest

from pyharness import paths

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.sglang]

FILE = paths.COLLECTION / "roles/engine_env/files/sglang-cpu/path/sglang_cpu_ext/page_hash.py"
PACKAGE = "sglang.srt.mem_cache.cpp_utils"


@pytest.fixture
def native_hash(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a stand-in for the module that compiles the function, with ours in it."""
    parts = PACKAGE.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    found = ModuleType(f"{PACKAGE}.native_hash")
    monkeypatch.setitem(sys.modules, found.__name__, found)
    vars(sys.modules[PACKAGE])["native_hash"] = found
    spec = importlib.util.spec_from_file_location("page_hash", FILE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return vars(found)["_load_native_hash_module"]()


# Computed with hash_binding.cpp of sglang 0.5.23.
@pytest.mark.parametrize("code", ["I", "q"])
def test_pages_are_chained(native_hash: Any, code: str) -> None:
    names = native_hash.get_hash(array(code, [1, 2, 3, 4, 5]), 5, 1, False, None, 2)  # noqa: FBT003

    assert [name[:16] for name in names] == ["34fb5c825de7ca4a", "c57b445f90651b9a", "e1fd781b60f933e6"]


def test_all_tokens_as_one_page_after_another(native_hash: Any) -> None:
    name = native_hash.get_hash(array("q", [2**32 - 1]), 1, 1, False, b"x" * 32)  # noqa: FBT003

    assert name[:16] == "d350a939a84ca21a"


@pytest.mark.parametrize(("tokens", "width", "bigram"), [([1, 2], 1, True), ([1, 2], 2, False), ([2**32], 1, False)])
def test_what_it_does_not_do_it_refuses(native_hash: Any, tokens: list[int], width: int, *, bigram: bool) -> None:
    with pytest.raises(NotImplementedError, match="plain 32-bit tokens only"):
        native_hash.get_hash(array("q", tokens), len(tokens) // width, width, bigram, None)
