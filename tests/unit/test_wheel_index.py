"""Wheels of a version, for the Python that will import them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import wheel_sources
from ansible_collections.disagg.e2e.plugins.module_utils.wheel_sources import Wanted

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return how pip is called; it leaves a file as if it had fetched one."""
    calls: list[list[str]] = []

    def fetch(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (Path(command[command.index("--dest") + 1]) / "demo-1.0-py3-none-any.whl").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fetch)
    return calls


def find(cache: Path, tag: str) -> Path:
    return wheel_sources.find("1.0", Wanted("demo", tag), cache, "", {}).path


def test_a_wheel_is_fetched_for_the_python_that_will_import_it(asked: list[list[str]], tmp_path: Path) -> None:
    mine, others = find(tmp_path, ""), find(tmp_path, "cp312")
    assert "--python-version" not in asked[0]
    assert asked[1][asked[1].index("--python-version") + 1] == "3.12"
    assert mine.parent != others.parent, "one version, two wheels"
    assert find(tmp_path, "cp312") == others
    assert len(asked) == 2, "it is there already"


@pytest.mark.parametrize("tag", ["py3", "3.12", "cp", "cp3x"])
def test_a_tag_that_is_none_is_refused_before_anything_is_fetched(
    asked: list[list[str]], tmp_path: Path, tag: str
) -> None:
    with pytest.raises(ValueError, match="not a tag of CPython"):
        find(tmp_path, tag)
    assert asked == []
