"""No room left, for the results or on a node: an error in words, no traceback, nothing left running.

The small disk is a tmpfs in a mount namespace of the harness's own: nobody else on the machine sees it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

# Mounts a disk of $1 KiB at $2, and becomes what follows.
_ON_A_SMALL_DISK = 'mount -t tmpfs -o "size=$1k" tmpfs "$2" && shift 2 && exec "$@"'


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    done = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("needs the right to make mount namespaces (root, CAP_SYS_ADMIN)")


def run(site: Site, small: Path, kib: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the main job where one folder is a disk of some KiB."""
    small.mkdir(exist_ok=True)
    program = [sys.executable, "-m", "pyharness", "test_1p1d_erdma", "--model", "Qwen/Qwen3-8B", "-q", "--json"]
    program += ["-i", str(site.inventory), "--results", str(site.results), *arguments]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", _ON_A_SMALL_DISK, "sh", str(kib), str(small), *program],
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def left_running(site: Site) -> list[str]:
    return [found["command"] for found in node_state.run_processes() if site.prefill in found["command"]]


# From nothing at all to what is enough for the first files, but not for logs.
SIZES = [pytest.param(size, marks=pytest.mark.pre_merge if size == 16 else pytest.mark.nightly) for size in (4, 16, 40)]


@pytest.mark.parametrize("kib", SIZES)
def test_no_room_for_the_results_is_an_error_in_words(kib: int, site: Site) -> None:
    done = run(site, site.results, kib)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert left_running(site) == []
    if done.stdout:
        report = json.loads(done.stdout)
        assert report["verdict"] == "error"
        first = report["failures"][0]
        assert (first["class"], "No space left on device" in first["evidence"]) == ("infrastructure", True), first
    else:
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("error: ")
        assert "No space left on device" in done.stderr


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a folder whose path leaves room for a Unix socket's."""
    with tempfile.TemporaryDirectory(prefix="d-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("kib", SIZES)
def test_no_room_on_a_node_is_an_error_in_words(kib: int, site: Site, short_path: Path) -> None:
    small = short_path / "s"
    done = run(site, small, kib, "-e", f"disagg_state_dir={small}", "-e", "disagg_min_free_gib=0")

    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert left_running(site) == []
    report = json.loads(done.stdout)
    assert report["verdict"] == "error"
    first = report["failures"][0]
    assert first["class"] == "infrastructure", report["failures"]
    assert "No space left" in first["evidence"] or "free" in first["evidence"], first


@pytest.mark.pre_merge
def test_too_little_room_on_a_node_is_told_before_anything_is_started(site: Site, tmp_path: Path) -> None:
    small = tmp_path / "s"
    done = run(site, small, 100, "-e", f"disagg_state_dir={small}")
    report = json.loads(done.stdout)
    assert done.returncode == 2
    assert report["failures"][0]["class"] == "infrastructure"
    assert "GiB of disk are free" in report["failures"][0]["evidence"]
    assert {phase["name"] for phase in report["phases"]} <= {"provision", "teardown"}
