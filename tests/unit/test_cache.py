"""Things that are made once: whole or not at all, by one maker at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import cache

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

PROJECT = Path(__file__).resolve().parents[2]
# Makes half of a thing, says so, and waits to be killed.
HALF = """
import sys
from pathlib import Path
from ansible_collections.disagg.e2e.plugins.module_utils import cache
directory = Path(sys.argv[1])
with cache.locked(directory, 10), cache.workspace(directory) as building:
    (building / "half").touch()
    print("up", flush=True)
    sys.stdin.read()
"""


def make(directory: Path) -> None:
    with cache.locked(directory, 10), cache.workspace(directory) as building:
        (building / "whole").touch()
        cache.write_record(building, {"seconds": 1})


def test_a_key_changes_with_any_part() -> None:
    different = ((), ("a",), ("a", "b"), (["a", "b"],), ("ab",), ({"a": 1},), ({"a": 2},))
    keys = {cache.key_of(*parts) for parts in different}
    assert len(keys) == len(different)
    assert all(len(key) == 12 and set(key) <= set("0123456789abcdef") for key in keys)
    assert cache.key_of({"a": 1, "b": 2}) == cache.key_of({"b": 2, "a": 1})


def test_what_is_made_is_there_with_its_record(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "thing"
    assert cache.read_record(directory) is None
    make(directory)
    assert cache.read_record(directory) == {"seconds": 1}
    assert {path.name for path in directory.iterdir()} == {"whole", cache.RECORD}


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "thing"

    def fail() -> None:
        with cache.workspace(directory) as building:
            (building / "half").touch()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_build_without_a_record_is_made_anew(tmp_path: Path) -> None:
    directory = tmp_path / "thing"
    directory.mkdir()
    (directory / "stale").touch()
    assert cache.read_record(directory) is None
    make(directory)
    assert not (directory / "stale").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "\xff"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / cache.RECORD).write_text(text, encoding="latin-1")
    assert cache.read_record(tmp_path) is None


def test_one_maker_at_a_time_and_a_killed_one_bars_nobody(tmp_path: Path) -> None:
    directory = tmp_path / "thing"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", HALF, str(directory)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        assert cache.read_record(directory) is None, "half of it must not be seen"
        with pytest.raises(TimeoutError, match=r"another process has been making .*/thing for 0 s \(lock: "):
            make_within(directory, 0.0)
        other.send_signal(signal.SIGKILL)
        other.wait(10)
    make(directory)
    assert {path.name for path in directory.iterdir()} == {"whole", cache.RECORD}


def make_within(directory: Path, seconds: float) -> None:
    with cache.locked(directory, seconds):
        pytest.fail("two makers at once")


def test_the_size_is_what_the_files_take(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "file")
    size = cache.size_bytes(tmp_path)
    assert 10_000 <= size < 30_000
