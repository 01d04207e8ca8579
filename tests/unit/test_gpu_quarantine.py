"""The mark that a node cannot be cleaned."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.modules import quarantine
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


def put(path: Path, *, check: bool = False, **changes: Any) -> dict[str, Any]:
    given = {"node": "lab-1", "reason": "GPU 6 holds 20000 MiB for nobody", "run": "r1", **changes}
    return run(quarantine, check=check, path=str(path), state="present", **given)


def test_a_node_goes_into_quarantine_and_out_again(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "quarantine.json"
    assert run(quarantine, path=str(path)) == {**run(quarantine, path=str(path)), "changed": False, "quarantine": None}
    first = put(path)
    assert first["changed"] is True
    entry = first["quarantine"]
    assert (entry["node"], entry["run"], entry["reason"]) == ("lab-1", "r1", "GPU 6 holds 20000 MiB for nobody")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["since"])
    assert run(quarantine, path=str(path))["quarantine"] == entry
    assert [found.name for found in path.parent.iterdir()] == ["quarantine.json"]
    gone = run(quarantine, path=str(path), state="absent")
    assert (gone["changed"], gone["quarantine"]) == (True, None)
    assert run(quarantine, path=str(path), state="absent")["changed"] is False


def test_the_first_reason_stays(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    first = put(path)["quarantine"]
    second = put(path, reason="another", run="r2")
    assert (second["changed"], second["quarantine"]) == (False, first)


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    assert put(path, check=True)["changed"] is True
    assert not path.exists()
    put(path)
    assert run(quarantine, check=True, path=str(path), state="absent")["changed"] is True
    assert path.exists()


@pytest.mark.parametrize("missing", ["node", "reason", "run"])
def test_a_quarantine_needs_node_reason_and_run(tmp_path: Path, missing: str) -> None:
    given = {"node": "lab-1", "reason": "held", "run": "r1"}
    del given[missing]
    result = run(quarantine, check=False, path=str(tmp_path / "quarantine.json"), state="present", **given)
    assert result["failed"] is True
    assert missing in result["msg"]


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read"), ("[]", "names no reason"), ('{"node": "a"}', "names no reason")]
)
def test_a_mark_that_cannot_be_understood_is_one(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "quarantine.json"
    path.write_text(text)
    entry = run(quarantine, path=str(path))["quarantine"]
    assert said in entry["reason"]
    assert put(path)["changed"] is False
    assert run(quarantine, path=str(path), state="absent")["changed"] is True


def test_a_mark_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError("no room")

    path = tmp_path / "quarantine.json"
    monkeypatch.setattr("os.replace", refuse)
    result = put(path)
    assert result["failed"] is True
    assert result["msg"] == f"{path} cannot be changed: no room; run as a user who may"
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"
