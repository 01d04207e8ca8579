"""What phases depend on: any change of it is another digest, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from pyharness import inputs, paths
from pyharness.options import Options

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an inventory, playbooks, a collection and a wheel of its own."""
    for name in ("inventory", "playbooks", "collection/plugins", "collection/molecule"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file.yml").write_text("one")
    (tmp_path / "demo.whl").write_text("wheel")
    monkeypatch.setattr(paths, "PLAYBOOKS", tmp_path / "playbooks")
    monkeypatch.setattr(paths, "COLLECTION", tmp_path / "collection")
    return tmp_path


def digests(ground: Path, case: cases.TestCase | None = None, **changes: Any) -> tuple[str, str]:
    options = Options(CASE, **{"inventory": ground / "inventory", "wheel": str(ground / "demo.whl"), **changes})
    subject = inputs.Inputs(options, case or cases.load(CASE, paths.PROJECT / "playbooks" / "vars"))
    assert subject.of("provision") == subject.of("deploy")
    assert subject.of("verify") == subject.of("exercise") != subject.of("deploy")
    return subject.of("deploy"), subject.of("verify")


def test_the_same_inputs_have_the_same_digest(ground: Path) -> None:
    before = digests(ground)
    (ground / "collection/plugins/__pycache__").mkdir()
    (ground / "collection/plugins/__pycache__/x.pyc").write_text("compiled")
    (ground / "collection/molecule/file.yml").write_text("two")
    assert digests(ground) == before


@pytest.mark.parametrize(
    "file", ["inventory/file.yml", "playbooks/file.yml", "collection/plugins/file.yml", "demo.whl", "inventory/new.yml"]
)
def test_a_changed_file_changes_all_phases(ground: Path, file: str) -> None:
    before = digests(ground)
    (ground / file).write_text("two")
    after = digests(ground)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_options_and_declaration_count(ground: Path) -> None:
    before = digests(ground)[0]
    other = cases.load(CASE, paths.PROJECT / "playbooks" / "vars").model_copy(update={"transport": "tcp"})
    assert len({before, digests(ground, extra_vars={"a": 1})[0], digests(ground, wheel="0.3")[0]}) == 3
    assert digests(ground, other)[0] != before


def test_the_harness_itself_counts_for_what_is_judged(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(ground)
    module = ground / "harness"
    module.mkdir()
    (module / "a.py").write_text("x = 1")
    monkeypatch.setattr(inputs, "__file__", str(module / "inputs.py"))
    after = digests(ground)
    assert before[0] == after[0]
    assert before[1] != after[1]
