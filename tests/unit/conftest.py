"""Unit tests keep nothing in the user's cache, and wait for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import lifecycle, redaction
from pyharness.verification import blame
from pyharness.verification import test_1p1d_erdma as job
from tests.unit.world import World

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


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world in which everything goes well."""
    subject = World(tmp_path)
    monkeypatch.setattr(lifecycle.run, "PlaybookRunner", subject.runner)
    monkeypatch.setattr(lifecycle.run, "Nodes", subject.nodes)
    monkeypatch.setattr(job, "verify", subject.verify)
    monkeypatch.setattr(job, "exercise", subject.exercise)
    subject.method = "transformers"
    return subject
