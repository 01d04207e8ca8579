"""The bundle of a run: what is in it, what is left out, and that it is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyharness import bundle, redaction
from pyharness.results import Report, TransportUse

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the results of a run."""
    root = tmp_path / "results" / "test_x"
    for name, text in {
        "report.json": '{"a": 1}\n',
        "junit.xml": "<testsuite/>\n",
        ".shrc": "export A='b'\n",
        "deployment.json": "{}\n",
        "journal.jsonl": '{"event": "run"}\n',
        "logs/model/load_balancer.log": "line\n" * 10,
        "logs/diagnosis/prefill/ss.txt": "$ ss\n",
        "whls/mooncake.whl": "not in it",
        ".facts/prefill": "not in it",
        "bundle.tar.zst": "not in it",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def report() -> Report:
    return Report(
        test_case="test_x",
        run_id="r1",
        started_at="2026-01-01T00:00:00Z",
        inventory="i",
        engine={"name": "sglang"},
        transport=TransportUse(declared="tcp"),
        versions={"sglang": "0.5.6", "driver": None},
    )


def unpacked(path: Path | None, into: Path) -> Path:
    """Unpack a bundle as a person does."""
    assert path is not None
    into.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", path, "-C", into], check=True)
    (root,) = into.iterdir()
    return root


def left(folder: Path) -> list[str]:
    """Return what else than results lies in a folder: files that were being written."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".bundle") or path.name.startswith("tmp")]


def test_all_that_there_is_to_say_is_in_it(folder: Path, report: Report, tmp_path: Path) -> None:
    changes = [{"what": "driver", "before": "570", "now": "580"}]
    root = unpacked(bundle.write(folder, report, changes), tmp_path / "out")
    assert root.name == "test_x-r1"
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert found == {
        *("manifest.json", "changes.json", "versions.json", "report.json", "junit.xml", ".shrc", "deployment.json"),
        *("journal.jsonl", "logs/model/load_balancer.log", "logs/diagnosis/prefill/ss.txt"),
    }
    assert json.loads((root / "changes.json").read_text()) == changes
    assert json.loads((root / "versions.json").read_text()) == {"sglang": "0.5.6", "driver": None}
    manifest = json.loads((root / "manifest.json").read_text())
    assert {entry["file"] for entry in manifest["files"]} == found - {"manifest.json"}
    for entry in manifest["files"]:
        data = (root / entry["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
        assert entry["truncated"] is False


def test_the_same_results_give_the_same_bytes(folder: Path, report: Report) -> None:
    first = bundle.write(folder, report)
    assert first is not None
    before = first.read_bytes()
    bundle.write(folder, report)
    assert first.read_bytes() == before


def test_the_report_comes_first(folder: Path, report: Report) -> None:
    path = bundle.write(folder, report)
    names = subprocess.run(
        ["tar", "--zstd", "-tf", str(path)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert [Path(name).name for name in names[:5]] == [
        *("manifest.json", "changes.json", "versions.json", "report.json", "junit.xml")
    ]


def test_what_is_too_long_loses_its_middle(
    folder: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "FILE_BYTES", 1000)
    log = folder / "logs/model/sglang_server_local.log"
    log.write_text("begin\n" + "x" * 5000 + "\nend\n")
    size = log.stat().st_size
    root = unpacked(bundle.write(folder, report), tmp_path / "out")
    text = (root / "logs/model/sglang_server_local.log").read_text()
    assert text.startswith("begin\n")
    assert text.endswith("\nend\n")
    assert f"[... {size - 1000} bytes left out here ...]" in text
    (entry,) = [
        entry
        for entry in json.loads((root / "manifest.json").read_text())["files"]
        if entry["file"].endswith("sglang_server_local.log")
    ]
    assert (entry["truncated"], entry["original_size"]) == (True, size)


@pytest.mark.parametrize(
    ("sizes", "limit"),
    [
        ([], 50),
        ([10, 20], 50),
        ([10, 49, 50], 45),  # 10 is whole; the rest of 100 is for two
        ([1] * 20 + [90, 90], 40),
        ([60, 60, 60], 33),
        ([80], 50),
    ],
)
def test_the_large_files_share_what_the_small_ones_leave(
    sizes: list[int], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TOTAL_BYTES": 100, "FILE_BYTES": 50, "_LEAST_BYTES": 1}.items():
        monkeypatch.setattr(bundle, name, value)
    assert bundle._limit(sizes) == limit
    assert sum(min(size, limit) for size in sizes) <= 100


def test_a_file_that_cannot_be_read_is_told_of(
    folder: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "load_balancer.log":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    path = bundle.write(folder, report)
    monkeypatch.undo()
    files = json.loads((unpacked(path, tmp_path / "out") / "manifest.json").read_text())["files"]
    problems = {entry["file"]: entry["problem"] for entry in files if "problem" in entry}
    assert problems == {"logs/model/load_balancer.log": "Permission denied"}


def test_no_room_is_a_line_and_leaves_the_bundle_of_before(
    folder: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle, "_pack", full)
    told: list[str] = []
    assert bundle.write(folder, report, tell=told.append) is None
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert (folder / bundle.NAME).read_text() == "not in it"
    assert left(folder) == []


def test_ctrl_c_in_the_middle_leaves_no_half_file(
    folder: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_root: str, _collected: object, stream: Any) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "_pack", interrupted)
    (folder / bundle.NAME).unlink()
    with pytest.raises(KeyboardInterrupt):
        bundle.write(folder, report)
    assert not (folder / bundle.NAME).exists()
    assert left(folder) == []


def test_a_secret_that_somebody_else_put_there_stays_out(folder: Path, report: Report, tmp_path: Path) -> None:
    (folder / "logs/note.txt").write_text("HF_TOKEN=c4n4ry-in-a-note and c4n4ry-learned\n")
    redaction.learn("API_KEY", "c4n4ry-learned")
    root = unpacked(bundle.write(folder, report), tmp_path / "out")
    assert (root / "logs/note.txt").read_text() == "HF_TOKEN=<redacted: HF_TOKEN> and <redacted: API_KEY>\n"
