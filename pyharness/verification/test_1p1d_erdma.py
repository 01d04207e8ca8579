"""Verification of test_1p1d_erdma: one prefill and one decode server of SGLang behind a router."""

from __future__ import annotations

from pyharness.verification.one_pair import CHECKS, exercise, verify

__all__ = ["CHECKS", "exercise", "verify"]
