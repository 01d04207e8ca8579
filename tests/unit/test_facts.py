"""What a run has learned of its nodes and its secrets: kept where nobody else can look, and forgotten in time."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from pyharness import facts, redaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

RUN = "20260101-000000-aaaa"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DISAGG_E2E_CACHE", str(tmp_path))
    redaction.forget()
    yield
    redaction.forget()


def test_nobody_else_can_look_into_them(tmp_path: Path) -> None:
    own = facts.begin(RUN)
    assert own == tmp_path / "facts" / RUN
    assert [stat.S_IMODE(path.stat().st_mode) for path in (own, own.parent)] == [0o700, 0o700]


def test_what_one_process_hides_the_next_one_hides_too() -> None:
    redaction.learn("api_key", "s3cr3t-of-a-service")
    file = facts.begin(RUN) / ".secrets.json"
    facts.keep_secrets(RUN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    redaction.forget()
    assert redaction.redact("it said s3cr3t-of-a-service") == "it said s3cr3t-of-a-service"
    facts.learn_secrets(RUN)
    assert redaction.redact("it said s3cr3t-of-a-service") == "it said <redacted: api_key>"


def test_what_is_not_there_is_no_error() -> None:
    facts.learn_secrets(RUN)
    facts.keep_secrets(RUN)
    facts.forget(RUN)
    (facts.begin(RUN) / ".secrets.json").write_text("{")
    facts.learn_secrets(RUN)


def test_secrets_alone_are_no_facts() -> None:
    facts.begin(RUN)
    facts.keep_secrets(RUN)
    assert not facts.are_known(RUN)
    facts.provisioned(RUN).write_text("{}")
    assert facts.are_known(RUN)
    assert not facts.are_known("20260101-000000-bbbb")


def test_a_run_that_is_over_leaves_nothing() -> None:
    own = facts.begin(RUN)
    (own / "prefill").write_text(json.dumps({"a": 1}))
    facts.forget(RUN)
    assert not own.exists()


def test_those_of_long_ago_are_forgotten(tmp_path: Path) -> None:
    for number in range(25):
        facts.begin(f"20260101-0000{number:02}-aaaa")
    kept = sorted(path.name for path in (tmp_path / "facts").iterdir())
    assert (len(kept), kept[0][-7:]) == (20, "05-aaaa")
