"""Logs on their way home: capped from the middle, packed, and packed elsewhere on a full disk."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import log_archive, text_limits
from ansible_collections.disagg.e2e.plugins.modules import run_clean
from tests.unit.module_runner import run

# Of its own: the module looks at all processes of the machine for those of the run.
RUN = f"r{os.getpid()}"

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "logs" / "model"
    folder.mkdir(parents=True)
    (folder / "a.log").write_text("begin\n" + "x" * 3000 + "\nend\n")
    (folder / "b.log").write_text("short\n")
    (folder / "empty.log").touch()
    (folder / "link.log").symlink_to("/etc/passwd")
    return folder.parent


def content(archive: str) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        return {entry.name: (tar.extractfile(entry) or io.BytesIO()).read().decode() for entry in tar}


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 12, 100, 5000])
@pytest.mark.parametrize("step", [1, 7, 10000])
def test_begin_and_end_are_kept(size: int, step: int) -> None:
    data = os.urandom(size)
    reader = text_limits.Capped(io.BytesIO(data), size, 10)
    result = b""
    while block := reader.read(step):
        result += block
    assert result == text_limits.middle_out(data, 10)
    assert len(result) == text_limits.length(size, 10)
    assert result[:5] == data[:5]
    assert result[-5:] == data[-5:]


def test_what_is_left_out_is_told_in_bytes() -> None:
    assert text_limits.middle_out(b"0123456789", 4) == b"01\n[... 6 bytes left out here ...]\n89"


def test_a_log_that_shrinks_meanwhile_keeps_the_archive_whole() -> None:
    reader = text_limits.Capped(io.BytesIO(b"ab"), 5, 10)
    assert reader.read() == b"ab\0\0\0"
    assert reader.read(1) == b""


def test_a_log_is_capped_on_its_node(logs: Path, tmp_path: Path) -> None:
    archive = log_archive.pack([str(logs), str(tmp_path / "none")], str(tmp_path / "new" / "a.tar.gz"), 1000)
    found = content(archive)
    assert set(found) == {"./model/a.log", "./model/b.log", "./model/empty.log"}
    text = found["./model/a.log"]
    assert text.startswith("begin\n")
    assert text.endswith("\nend\n")
    assert "[... 2011 bytes left out here ...]" in text
    assert found["./model/b.log"] == "short\n"


def test_without_logs_there_is_no_archive(tmp_path: Path) -> None:
    assert log_archive.pack([str(tmp_path / "none")], str(tmp_path / "a.tar.gz"), 10) == ""
    assert not (tmp_path / "a.tar.gz").exists()


def test_on_a_full_disk_the_logs_go_to_memory(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = log_archive._add
    disk = str(tmp_path / "disk" / "a.tar.gz")

    def full(tar: tarfile.TarFile, *arguments: Any) -> None:
        if Path(disk).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tar, *arguments)

    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(log_archive, "MEMORY", str(tmp_path / "memory"))
    monkeypatch.setattr(log_archive, "_LEAST_CAP", 500)
    monkeypatch.setattr(log_archive, "_add", full)
    archive = log_archive.pack([str(logs)], disk, 1000)
    assert Path(archive).parent == tmp_path / "memory"
    assert not Path(disk).exists()
    assert "[... 2511 bytes left out here ...]" in content(archive)["./model/a.log"]


def test_a_full_disk_and_full_memory_leave_nothing(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(log_archive, "MEMORY", str(tmp_path / "memory"))
    monkeypatch.setattr(log_archive, "_add", full)
    with pytest.raises(OSError, match="No space left"):
        log_archive.pack([str(logs)], str(tmp_path / "a.tar.gz"), 1000)
    assert not (tmp_path / "a.tar.gz").exists()
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_node_is_cleaned_even_where_its_logs_cannot_be_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", "a.tar.gz")

    (tmp_path / RUN / "one" / "logs").mkdir(parents=True)
    monkeypatch.setattr(log_archive, "pack", full)
    # Not from the result: where Ansible itself is in this process, it tells people at once.
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: warned.append(text))
    result = run(run_clean, run=RUN, state_dir=str(tmp_path), node="one", archive=str(tmp_path / "a.tar.gz"))
    assert (result["runs"], result["left"], result["archive"]) == ([RUN], [], "")
    assert "No space left on device" in warned[0]
    assert not (tmp_path / RUN).exists()


def test_teardown_caps_the_logs(tmp_path: Path) -> None:
    folder = tmp_path / RUN / "one" / "logs"
    folder.mkdir(parents=True)
    (folder / "a.log").write_text("x" * 5000)
    archive = str(tmp_path / "a.tar.gz")
    result = run(run_clean, run=RUN, state_dir=str(tmp_path), node="one", archive=archive, log_cap_bytes=100)
    assert result["archive"] == archive
    assert "[... 4900 bytes left out here ...]" in content(archive)["./a.log"]
