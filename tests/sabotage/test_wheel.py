"""The wheel under test: what is asked for, what is deployed and what is loaded are held against each other."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from pyharness.errors import UsageError
from pyharness.verification.wheel import read_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.mooncake]

OLDER = "0.3.13"


@pytest.fixture
def tested_wheel(site: Site) -> Path:
    """Return the wheel that the inventory has tested by default, as a run keeps it."""
    report = site.run()
    assert report.verdict == "pass", report.failures
    wheels: list[Path] = list((site.results / "test_1p1d_erdma" / "whls").glob("*.whl"))
    return wheels[0]


def test_a_version_that_is_asked_for_is_the_one_that_runs(site: Site) -> None:
    report = site.run(wheel=OLDER)

    assert report.verdict == "pass", report.failures
    assert report.versions["mooncake-transfer-engine-non-cuda"] == OLDER
    assert f"-{OLDER}-" in (report.artifacts["wheel"] or {})["file"]


def test_another_mooncake_in_front_of_the_wheel_is_an_error(site: Site, tested_wheel: Path) -> None:
    overlay = site.results / "stranger"
    with zipfile.ZipFile(tested_wheel) as archive:
        archive.extractall(overlay)
    report = site.run(wheel=OLDER, extra_vars={"disagg_environment": {"PYTHONPATH": f"{overlay}:{paths.PROJECT}"}})

    assert report.verdict == "error"
    assert [failure.check for failure in report.failures] == ["wheel_in_use"]
    assert report.failures[0].class_ == "configuration"
    assert f"{overlay}" in report.failures[0].evidence
    assert OLDER in report.failures[0].evidence


def test_one_changed_byte_in_a_library_is_an_error(site: Site, tested_wheel: Path) -> None:
    overlay = site.results / "changed"
    with zipfile.ZipFile(tested_wheel) as archive:
        archive.extractall(overlay)
    library = next(overlay.glob("mooncake/engine*.so"))
    with library.open("ab") as stream:
        stream.write(b"\0")
    report = site.run(extra_vars={"disagg_environment": {"PYTHONPATH": f"{overlay}:{paths.PROJECT}"}})

    assert report.verdict == "error"
    assert "engine" in report.failures[0].evidence


def test_a_wheel_file_that_is_asked_for_is_the_one_that_runs(site: Site, tested_wheel: Path, tmp_path: Path) -> None:
    mine = tmp_path / tested_wheel.name
    mine.write_bytes(tested_wheel.read_bytes())

    report = site.run(wheel=str(mine))

    assert report.verdict == "pass", report.failures
    digest = read_wheel(mine).sha256
    assert report.artifacts["wheel"] == {"file": mine.name, "sha256": digest, "source": "file", "origin": str(mine)}


def test_a_version_that_nobody_has_is_one_clear_line(site: Site) -> None:
    report = site.run(wheel="0.0.99")

    assert report.verdict == "error"
    assert [failure.class_ for failure in report.failures] == ["configuration"]
    assert "mooncake-transfer-engine-non-cuda==0.0.99" in report.failures[0].evidence
    assert "\n" not in report.failures[0].evidence


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_a_file_that_is_no_wheel_replaces_an_earlier_pass_by_an_error(site: Site, content: bytes | None) -> None:
    assert site.run().verdict == "pass"
    file = site.results / "broken.whl"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(UsageError, match=str(file)):
        site.run(wheel=str(file))

    assert site.result()["status"] == "Fail"
