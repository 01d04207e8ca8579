"""Make tiny models with random weights, for tests in which only the path of the data matters.

The result is an ordinary Hugging Face folder (safetensors, ``config.json``, a byte-level BPE tokenizer with a
chat template) that SGLang, vLLM and transformers load without special treatment. It is written with numpy,
safetensors and tokenizers alone: importing torch and transformers would take several times longer than making
the model.

Everything is deterministic: with the same versions of the three libraries, the same seed gives the same
bytes.

Three choices serve the comparison of greedy answers between engines:

* Weights are drawn with a standard deviation of 0.2 instead of the usual 0.02. The text is then varied, and
  the best token leads the second best by far more than float32 arithmetic differs between two
  implementations.
* Tokens that are not printable ASCII on their own (raw bytes, special tokens) get an output row of zeros.
  Their score is always 0, below the best of some 2,000 random scores, so every answer is valid UTF-8 and uses
  its whole budget.
* Every layer of the plain MLA model is dense. The one with experts is for tests of these.

Example: ``python make_model.py --model qwen3=/tmp/q --model deepseek_v2=/tmp/d``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import vision_tower
from architectures import ARCHITECTURES, CONTEXT_LENGTH, INITIALIZER_RANGE, WITH_VISION
from safetensors.numpy import save_file
from stand_in_tokenizer import CHAT_TEMPLATE, END_OF_TEXT, TURN_END, make_tokenizer, mute_unprintable

# Of the seeds 0 to 39 the one whose closest call is widest: for the prompt "Let me tell you a short story "
# the best of all 128 greedy tokens leads the second best by at least 0.013 (qwen3) and 0.022 (deepseek_v2), a
# thousand times the rounding error of float32 here. Choose anew when shapes, words or the order of the
# drawing change.
DEFAULT_SEED = 36


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one JSON file in the style of the Hugging Face libraries.

    Args:
        path: File to write.
        content: What to write.
    """
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def make_model(architecture: str, out: Path, seed: int) -> None:
    """Make one model folder; it appears complete or not at all.

    Args:
        architecture: A key of ``ARCHITECTURES``.
        out: Folder to make. An older one of the same name is replaced.
        seed: Start of the random numbers.
    """
    sees = architecture in WITH_VISION
    tokenizer = make_tokenizer(vision_tower.SPECIAL_TOKENS if sees else ())
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return generator.standard_normal(shape, np.float32) * np.float32(INITIALIZER_RANGE)

    config, weights = ARCHITECTURES[architecture](draw, tokenizer)
    mute_unprintable(weights["lm_head.weight"], tokenizer)

    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        save_file(weights, work / "model.safetensors", metadata={"format": "pt"})
        write_json(work / "config.json", config)
        write_json(
            work / "generation_config.json",
            {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        )
        tokenizer.save(str(work / "tokenizer.json"))
        write_json(
            work / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": TURN_END,
                "pad_token": END_OF_TEXT,
                "clean_up_tokenization_spaces": False,
                "model_max_length": CONTEXT_LENGTH,
                "chat_template": vision_tower.CHAT_TEMPLATE if sees else CHAT_TEMPLATE,
                **({"processor_class": "Qwen2_5_VLProcessor"} if sees else {}),
            },
        )
        if sees:
            write_json(work / "preprocessor_config.json", vision_tower.preprocessor_config())
        # mkdtemp makes the folder private to this user; the engine may run as another one.
        work.chmod(0o755)
        for file in work.iterdir():
            file.chmod(0o644)
        if out.exists():
            shutil.rmtree(out)
        os.replace(work, out)  # noqa: PTH105 - Path.replace is the same call, this one says that it is atomic
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def model_argument(text: str) -> tuple[str, Path]:
    """Split ``ARCHITECTURE=DIR``.

    Args:
        text: The value of one ``--model``.

    Raises:
        argparse.ArgumentTypeError: It has another shape or names an unknown architecture.
    """
    architecture, _, folder = text.partition("=")
    if architecture not in ARCHITECTURES or not folder:
        message = f"{text!r} is not ARCHITECTURE=DIR with ARCHITECTURE one of {', '.join(ARCHITECTURES)}"
        raise argparse.ArgumentTypeError(message)
    return architecture, Path(folder)


def main(arguments: list[str] | None = None) -> int:
    """Make the models that the command line names.

    Args:
        arguments: The command line without the program, by default the process's own.

    Returns:
        Exit status 0. A wrong command line exits with 2.
    """
    parser = argparse.ArgumentParser(description="Make tiny models with random weights.")
    parser.add_argument(
        "--model",
        type=model_argument,
        action="append",
        required=True,
        metavar="ARCHITECTURE=DIR",
        help=f"a model to make, ARCHITECTURE one of {', '.join(ARCHITECTURES)}; repeatable",
    )
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="start of the random numbers (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    for architecture, out in options.model:
        make_model(architecture, out, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
