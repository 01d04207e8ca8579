"""What is started on a node is written down there before."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import service_journal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


def test_each_start_is_a_line_that_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = tmp_path / "logs" / "model" / "decode.log"
    for service in ("decode", "router"):
        service_journal.note(str(log), "two", service, ["python", "-m", service])
    lines = [json.loads(line) for line in (log.parent / "journal-two.jsonl").read_text().splitlines()]
    assert [(line["event"], line["node"], line["service"], line["command"][-1]) for line in lines] == [
        ("service", "two", "decode", "decode"),
        ("service", "two", "router", "router"),
    ]
    assert len(synced) == 2


def test_where_it_cannot_be_written_nothing_may_be_started(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(OSError, match="logs"):
        service_journal.note(str(tmp_path / "logs" / "decode.log"), "two", "decode", [])
