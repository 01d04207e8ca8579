"""The CPU environment of the real SGLang: its version guard, and the makers of models and references."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Environment

pytestmark = [pytest.mark.post_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.sglang]
requires = "sglang"

ROLES = Path(__file__).parents[2] / "ansible_collections/disagg/e2e/roles"
STAND_INS = ROLES / "engine_env/files/sglang-cpu/path"
MAKE_MODEL = ROLES / "model/files/make_model.py"
REFERENCE = ROLES / "model/files/reference.py"
ARCHITECTURES = ("qwen3", "deepseek_v2", "deepseek_v2_moe", "qwen2_5_vl")
# transformers reads no pictures here: of the last one SGLang alone is the reference.
WITH_REFERENCE = ("qwen3", "deepseek_v2", "deepseek_v2_moe")
CAT = Path(__file__).parents[2] / "playbooks/pictures/cat.png"
PROMPT = "Let me tell you a short story "


@pytest.fixture(scope="module")
def python(sglang_environment: Environment) -> Path:
    """Return the interpreter of the built environment."""
    return sglang_environment.python


def run(*command: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program with additional environment variables and return its output, whatever its exit status."""
    variables = {name: str(value) for name, value in environment.items()}
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def models(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make one model of each architecture."""
    folder = tmp_path_factory.mktemp("models")
    made = {architecture: folder / architecture for architecture in ARCHITECTURES}
    arguments = [f"--model={architecture}={out}" for architecture, out in made.items()]
    process = run(python, MAKE_MODEL, *arguments)
    assert process.returncode == 0, process.stderr
    return made


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_guard_accepts_the_pinned_sglang(python: Path) -> None:
    process = run(python, "-c", "import sglang; print(sglang.__version__)", PYTHONPATH=STAND_INS)
    assert (process.returncode, process.stdout.split()[-1:]) == (0, ["0.5.23"]), process.stderr


def test_guard_ends_the_process_with_one_line_on_another_sglang(python: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "sglang-0.6.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.6.0\n", encoding="utf-8")

    process = run(python, "-m", "sglang.launch_server", PYTHONPATH=f"{STAND_INS}:{tmp_path}")

    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    for expected in ("0.6.0", "0.5.23", str(STAND_INS), "install sglang==0.5.23"):
        assert expected in line


def test_guard_leaves_other_programs_alone(python: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "sglang-0.6.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.6.0\n", encoding="utf-8")

    process = run(python, "-c", "import aiohttp", PYTHONPATH=f"{STAND_INS}:{tmp_path}")

    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_same_seed_makes_the_same_bytes(
    python: Path, models: dict[str, Path], tmp_path: Path, architecture: str
) -> None:
    process = run(python, MAKE_MODEL, f"--model={architecture}={tmp_path / 'again'}")
    assert process.returncode == 0, process.stderr
    assert content(tmp_path / "again") == content(models[architecture])


def test_a_model_that_sees_has_all_that_pictures_need(python: Path, models: dict[str, Path]) -> None:
    """Transformers' own processor makes as many tokens of the test case's picture as the test case says."""
    program = """
import sys
sys.modules["torchvision"] = None
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, AutoImageProcessor
config = AutoConfig.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
message = [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "What?"}]}]
text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
assert tokenizer(text)["input_ids"].count(config.image_token_id) == 1, text
seen = AutoImageProcessor.from_pretrained(sys.argv[1], backend="pil")(Image.open(sys.argv[2]), return_tensors="np")
patches = seen["image_grid_thw"].prod()
print(patches // config.vision_config.spatial_merge_size**2, config.vision_config.out_hidden_size)
"""
    process = run(python, "-c", program, models["qwen2_5_vl"], CAT)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["144", "128"]


def test_another_seed_makes_other_weights_and_the_same_tokenizer(
    python: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    process = run(python, MAKE_MODEL, f"--model=qwen3={tmp_path / 'other'}", "--seed=1")
    assert process.returncode == 0, process.stderr
    other, model = content(tmp_path / "other"), content(models["qwen3"])
    assert other["tokenizer.json"] == model["tokenizer.json"]
    assert other["model.safetensors"] != model["model.safetensors"]


def test_an_unknown_architecture_is_refused_by_name(python: Path, tmp_path: Path) -> None:
    process = run(python, MAKE_MODEL, f"--model=qwen4={tmp_path / 'x'}")
    assert process.returncode == 2
    assert "one of qwen3, deepseek_v2" in process.stderr
    assert not (tmp_path / "x").exists()


def test_reference_answers_are_long_printable_varied_and_told_apart(
    python: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    arguments = [f"--model={models[name]}={tmp_path / name}.json" for name in WITH_REFERENCE]
    process = run(python, REFERENCE, *arguments, "--prompt", PROMPT)
    assert process.returncode == 0, process.stderr

    answers = {name: json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in WITH_REFERENCE}
    tokens = 128
    for answer in answers.values():
        assert len(answer["token_ids"]) == tokens
        assert len(set(answer["token_ids"])) > tokens / 2
        assert answer["text"].isprintable()
        assert answer["text"].isascii()
        assert PROMPT not in answer["text"]
    assert answers["qwen3"]["text"] != answers["deepseek_v2"]["text"]
