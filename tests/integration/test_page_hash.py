"""The names that the CPU environment gives to pages are those of SGLang's own function, compiled here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Environment

pytestmark = [pytest.mark.post_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.sglang]
requires = ["sglang", "ninja"]

STAND_INS = Path(__file__).parents[2] / "ansible_collections/disagg/e2e/roles/engine_env/files/sglang-cpu/path"
PROGRAM = """
import random
from array import array
from sglang.srt.mem_cache.cpp_utils import native_hash
compiled = native_hash._load_native_hash_module()
import importlib.util
spec = importlib.util.spec_from_file_location("page_hash", FILE)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
ours = native_hash._load_native_hash_module()
assert ours is not compiled
draw = random.Random(36)
for count in (0, 1, 63, 64, 65, 400):
    for code in "Iq":
        tokens = array(code, [draw.randrange(2**32) for _ in range(count)])
        for prior in (None, bytes(range(32))):
            for page in (None, 16, 64):
                asked = (tokens, count, 1, False, prior, page)
                assert ours.get_hash(*asked) == compiled.get_hash(*asked), asked
print("the same")
"""


def test_both_give_the_same_names(sglang_environment: Environment, tmp_path: Path) -> None:
    program = PROGRAM.replace("FILE", repr(str(STAND_INS / "sglang_cpu_ext" / "page_hash.py")))
    variables = {"PYTHONPATH": str(STAND_INS), "TORCH_EXTENSIONS_DIR": str(tmp_path), "SGLANG_USE_CPU_ENGINE": "1"}
    done = subprocess.run(
        [sglang_environment.python, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip().endswith("the same"), done.stderr
