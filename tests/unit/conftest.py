"""Unit tests keep nothing in the user's cache, and wait for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import redaction
from pyharness.verification import blame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISAGG_E2E_CACHE", str(tmp_path / "cache-of-its-own"))


@pytest.fixture(autouse=True)
def _nobody_is_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at services once after a failed request: stand-ins do not take their time to end."""
    monkeypatch.setattr(blame, "DYING_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _no_secret_is_known_afterwards() -> Iterator[None]:
    """Forget what one test called a secret: it may be a word in another."""
    yield
    redaction.forget()
