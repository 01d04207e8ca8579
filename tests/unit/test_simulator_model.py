"""The model folder, the KV cache, and the commands that need no server."""

import json
from pathlib import Path

import pytest

from pyharness.simulator import text
from pyharness.simulator.cli import main
from pyharness.simulator.model import ARCHITECTURES, Model, ModelError, model_files, write_model

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

PROMPT = text.encode("hello, world!")


def written(folder: Path, architecture: str = "qwen3", seed: int = 0) -> Model:
    write_model(architecture, seed, folder)
    return Model.load(str(folder))


@pytest.mark.parametrize(("architecture", "size"), [("qwen3", 13_312), ("deepseek_v2", 8_320)])
def test_the_kv_cache_has_the_size_that_the_configuration_says(tmp_path: Path, architecture: str, size: int) -> None:
    assert len(written(tmp_path / "model", architecture).prefill(PROMPT)) == size


def test_the_kv_cache_depends_on_tokens_seed_and_architecture(tmp_path: Path) -> None:
    model = written(tmp_path / "one")
    other_seed = written(tmp_path / "two", seed=1)
    other_kind = written(tmp_path / "three", "deepseek_v2")
    again = written(tmp_path / "four")
    size = 8_000
    heads = [
        model.prefill(PROMPT)[:size],
        model.prefill([*PROMPT[:-1], 0])[:size],
        other_seed.prefill(PROMPT)[:size],
        other_kind.prefill(PROMPT)[:size],
    ]
    assert len(set(heads)) == len(heads)
    assert again.prefill(PROMPT) == model.prefill(PROMPT)


def test_both_architectures_are_offered() -> None:
    assert ARCHITECTURES == ("qwen3", "deepseek_v2")


def test_the_command_writes_once_and_replaces_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "model"
    command = ["model", "--architecture", "qwen3", "--out", str(folder)]
    assert main(command) == 0
    assert main(command) == 0
    assert main([*command, "--seed", "7"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"written: {folder}",
        f"unchanged: {folder}",
        f"written: {folder}",
    ]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == model_files("qwen3", 7)
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"], "a temporary folder was left"


def test_a_damaged_model_is_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_model("qwen3", 0, folder)
    (folder / "tokenizer.json").unlink()
    assert write_model("qwen3", 0, folder) is True
    assert (folder / "tokenizer.json").exists()


@pytest.mark.parametrize("name", ["config.json", "notes.txt"])
def test_a_folder_of_others_is_not_replaced(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text('{"model_type": "qwen3"}')
    assert main(["model", "--architecture", "qwen3", "--out", str(tmp_path)]) == 1
    assert "is not a model of the simulator's" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "{}"])
def test_a_folder_without_a_usable_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        Model.load(str(tmp_path))


def test_the_reference_is_what_the_model_says(tmp_path: Path) -> None:
    model = written(tmp_path / "model")
    out = tmp_path / "reference.json"
    command = ["reference", "--model-path", model.path, "--prompt", "hello, world!", "--out", str(out)]
    assert main([*command, "--max-new-tokens", "5"]) == 0
    reference = json.loads(out.read_text())
    assert reference["text"] == text.decode(text.answer_ids(model.prefill(PROMPT), 5))
    assert (reference["prompt_tokens"], reference["completion_tokens"]) == (13, 5)
    assert reference["kv_cache_bytes"] == 13_312
    assert reference["simulator"] is True
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "reference.json"]


def test_a_reference_without_a_model_fails_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reference.json"
    missing = str(tmp_path / "missing")
    assert main(["reference", "--model-path", missing, "--prompt", "x", "--out", str(out)]) == 1
    assert "config.json" in capsys.readouterr().err
    assert not out.exists()
