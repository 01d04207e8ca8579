"""Which models of a hub are complete in a cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.modules import hub_cache_info
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.model]

CONFIG = {"num_hidden_layers": 36}


def snapshot(cache: Path, commit: str = "abc123") -> Path:
    """Write what the Hugging Face hub's library keeps of a model with two shards."""
    model = cache / "huggingface" / "hub" / "models--Qwen--Qwen3-8B"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(f"{commit}\n")
    folder = model / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    for shard in shards.values():
        (folder / shard).write_bytes(b"")
    return folder


def look(cache: Path, path: str = "Qwen/Qwen3-8B", **model: str) -> dict[str, Any]:
    result = run(hub_cache_info, cache_dir=str(cache), models=[{"path": path, **model}])
    assert result["changed"] is False
    (found,) = result["models"]
    assert isinstance(found, dict)
    return found


def test_a_complete_model_tells_its_commit_and_shape(tmp_path: Path) -> None:
    snapshot(tmp_path)
    assert look(tmp_path) == {"cached": True, "revision": "abc123", "config": CONFIG}
    assert look(tmp_path, revision="abc123")["cached"] is True


def test_a_model_with_a_shard_missing_is_not_complete(tmp_path: Path) -> None:
    (snapshot(tmp_path) / "model-00002-of-00002.safetensors").unlink()
    assert look(tmp_path) == {"cached": False, "revision": "abc123", "config": CONFIG}


def test_another_revision_is_another_model(tmp_path: Path) -> None:
    snapshot(tmp_path)
    assert look(tmp_path, revision="def456") == {"cached": False, "revision": None, "config": None}


@pytest.mark.parametrize("part", ["models/", ""])
def test_modelscope_has_folders_of_its_own(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "modelscope" / "hub" / part / "Qwen" / "Qwen2___5-7B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    assert look(tmp_path, "Qwen/Qwen2.5-7B")["cached"] is False
    (folder / "model.safetensors").write_bytes(b"")
    assert look(tmp_path, "Qwen/Qwen2.5-7B") == {"cached": True, "revision": None, "config": CONFIG}


def test_a_directory_of_the_node_is_looked_at_itself(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    (tmp_path / "mine" / "pytorch_model.bin").write_bytes(b"")
    assert look(tmp_path / "cache", str(tmp_path / "mine"))["cached"] is True


def test_damaged_files_are_no_model(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    (folder / "model.safetensors.index.json").write_text("[]")
    assert look(tmp_path)["cached"] is False
    (folder / "config.json").write_text("{")
    assert look(tmp_path) == {"cached": False, "revision": None, "config": None}
