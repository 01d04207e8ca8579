"""What the library keeps to itself: nothing is loaded early, nothing stays changed, nothing temporary is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

import pyharness
from pyharness import paths, temporary, unfinished
from pyharness.errors import one_line
from pyharness.interrupt import Interrupt

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def test_everything_that_is_exported_is_there() -> None:
    for name in pyharness.__all__:
        assert getattr(pyharness, name) is not None
        assert name in dir(pyharness)
    with pytest.raises(AttributeError, match="no attribute 'run_all'"):
        _ = pyharness.run_all


@pytest.mark.parametrize("module", ["pyharness", "pyharness.pytest_plugin"])
def test_importing_it_loads_neither_ansible_nor_anything_else_that_takes_time(module: str) -> None:
    program = f"import {module}, sys; print(*(name for name in sys.modules if name.startswith({_SLOW!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


_SLOW = ("ansible", "testinfra", "pydantic", "requests", "yaml", "jinja2")


def test_the_environment_is_put_back_with_the_last_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", "/theirs")
    monkeypatch.delenv("ANSIBLE_COLLECTIONS_PATH", raising=False)
    before = dict(os.environ)
    first, second = paths.project_ansible(), paths.project_ansible()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ["ANSIBLE_CONFIG"] == str(paths.PROJECT / "ansible.cfg")
    second.__exit__(None, None, None)
    assert dict(os.environ) == before


def test_in_another_thread_no_signal_is_noted_and_no_handler_changed() -> None:
    handler, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Interrupt().armed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]


def test_folders_of_processes_that_are_gone_are_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pid, start = unfinished.own_identity()
    gone = [tmp_path / f"disagg-e2e-runner-{pid}-{start + 1}-abc", tmp_path / f"disagg-e2e-facts-{2**22 + 1}-5-abc"]
    theirs = [tmp_path / "disagg-e2e-notes", tmp_path / f"disagg-e2e-runner-{pid}-abc", tmp_path / "other"]
    for folder in (*gone, *theirs):
        folder.mkdir()
    with temporary.folder("runner") as own:
        (own / "secret").touch()
        assert own.stat().st_mode & 0o777 == 0o700
        temporary.sweep()
        assert sorted(tmp_path.iterdir()) == sorted([own, *theirs])
    assert not own.exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines", "two lines"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("right\u202eleft", r"right\u202eleft"),
        (os.fsdecode(b"\xff"), r"\udcff"),
        ("é 漢", "é 漢"),
    ],
)
def test_an_error_is_one_line_that_every_terminal_takes(text: str, line: str) -> None:
    assert one_line(text) == line
    assert len(one_line("x" * 10_000)) < 2100
