"""The collection's actions, which run in the controller's own process."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.disagg.e2e.plugins.action import controller_file, wheel_file
from ansible_collections.disagg.e2e.plugins.module_utils import wheel_sources
from tests.unit.builders import write_wheel

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


def act(plugin: ModuleType, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run an action with a task of these arguments."""
    task = SimpleNamespace(args=arguments, check_mode=check, async_val=0, diff=False)
    others = ("connection", "play_context", "loader", "templar", "shared_loader_obj")
    action = plugin.ActionModule(task=task, **{name: MagicMock() for name in others})
    return dict(action.run(task_vars={}))


def write(path: Path, content: dict[str, Any], *, check: bool = False) -> bool:
    return bool(act(controller_file, check=check, path=str(path), content=content)["changed"])


def test_a_document_is_written_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deployment.json"
    assert write(path, {"b": 1, "a": [None]})
    assert json.loads(path.read_text()) == {"a": [None], "b": 1}
    assert not write(path, {"a": [None], "b": 1})
    assert write(path, {"a": []})
    assert [entry.name for entry in path.parent.iterdir()] == ["deployment.json"]


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert write(tmp_path / "new" / "file", {}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_document_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnsibleActionFail, match=r"/file/deployment\.json cannot be written: File exists"):
        write(tmp_path / "file" / "deployment.json", {})


def fetch(source: object, cache: Path) -> dict[str, Any]:
    return act(wheel_file, source=str(source), package="demo", cache_dir=str(cache))


def test_a_wheel_file_is_taken_as_it_is(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b""}, version="2.0")
    assert fetch(wheel, tmp_path / "cache") == {
        "changed": False,
        "file": str(wheel),
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "version": "2.0",
        "source": "file",
        "origin": str(wheel),
    }


@pytest.mark.parametrize(
    "content", [None, b"text", b"PK\x05\x06" + b"\0" * 18], ids=["not there", "text", "empty archive"]
)
def test_what_is_no_wheel_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.whl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnsibleActionFail, match=r"broken\.whl is not a wheel \(.+\)"):
        fetch(path, tmp_path)


def pip(monkeypatch: pytest.MonkeyPatch, wheel: Path | None, said: str = "") -> list[str]:
    """Let pip fetch a wheel, or nothing. Returns what it is asked for."""
    asked: list[str] = []

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        if wheel is not None:
            shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, int(wheel is None), "", said)

    fake = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(wheel_sources, "subprocess", fake)
    return asked


def test_a_version_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pip(monkeypatch, write_wheel(tmp_path, {"demo/__init__.py": b""}))
    first, second = fetch("1.0", tmp_path / "cache"), fetch("1.0", tmp_path / "cache")
    assert asked == ["demo==1.0"]
    assert (first["changed"], second["changed"]) == (True, False)
    assert (first["source"], first["version"]) == ("index", "1.0")
    assert first["origin"] == "demo==1.0 of the package index"
    assert first["file"] == second["file"]


def test_a_version_that_is_not_to_be_had_is_told_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pip(monkeypatch, None, "WARNING: x\nERROR: No matching distribution\nERROR: y\n")
    for _twice in range(2):
        with pytest.raises(AnsibleActionFail, match=r"^no demo==9\.9 to be had: ERROR: No matching distribution$"):
            fetch("9.9", tmp_path)
    assert len(asked) == 2
