"""Verification of test_vllm_1p1d_erdma: one prefill and one decode server of vLLM behind a proxy.

vLLM counts no bytes of Mooncake's transfers. What moved is told by the tokens that each side computed or took over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import one_pair, tokens
from pyharness.verification.one_pair import CHECKS, verify

if TYPE_CHECKING:
    from pyharness.verification.base import Trial


def exercise(trial: Trial) -> None:
    """Send requests and check what came of them."""
    one_pair.exercise(trial, tokens.kv_cache_moved)


__all__ = ["CHECKS", "exercise", "verify"]
