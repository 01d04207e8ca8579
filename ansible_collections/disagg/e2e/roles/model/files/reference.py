"""Give the answer that one engine alone would give: greedy generation in float32 by transformers, on the CPU.

The text is what SGLang's ``POST /generate`` returns as ``text`` for the same prompt at temperature 0: at most
``--max-new-tokens`` tokens (128 is SGLang's own default), ended early by the model's end token, special
tokens left out, the prompt not repeated. It comes from an implementation that shares no model code with the
engine under test.

Several models in one process cost little more than one, since importing torch and transformers takes most of
the time.

Example: ``python reference.py --model /tmp/q=/tmp/q.json --model /tmp/d=/tmp/d.json --prompt "Once upon"``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Before transformers is imported, which reads it once: a model folder is complete, no hub may be asked.
os.environ["HF_HUB_OFFLINE"] = "1"
# None makes transformers do without torchvision. Text models have no use for it, and the one from PyPI is a
# CUDA build that does not import beside a CPU torch.
sys.modules["torchvision"] = None  # type: ignore[assignment]  # "not importable", see importlib's documentation

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

# SGLang's default when a request names no limit (sampling_params.max_new_tokens).
DEFAULT_NEW_TOKENS = 128


def weights_digest(model: Path) -> str:
    """Return the SHA-256 of the model's weights, to tell whether an engine read the same ones.

    Args:
        model: Model folder.

    Raises:
        FileNotFoundError: The folder has no safetensors file.
    """
    files = sorted(model.glob("*.safetensors"))
    if not files:
        message = f"{model} has no *.safetensors file: is it a model folder?"
        raise FileNotFoundError(message)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def answer(model: Path, prompt: str, max_new_tokens: int) -> dict[str, Any]:
    """Generate greedily.

    Args:
        model: Model folder.
        prompt: Text to continue.
        max_new_tokens: Most tokens to add.

    Returns:
        ``text``, its ``token_ids`` (the end token included where one was given), and what produced them.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    prompt_ids = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        sequence = network.generate(**prompt_ids, do_sample=False, max_new_tokens=max_new_tokens)[0]
    prompt_tokens = prompt_ids["input_ids"].shape[1]
    token_ids = sequence[prompt_tokens:].tolist()
    return {
        "text": tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
        "token_ids": token_ids,
        "prompt": prompt,
        "prompt_tokens": prompt_tokens,
        "max_new_tokens": max_new_tokens,
        "weights_sha256": weights_digest(model),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the whole file or none.

    Args:
        path: File to write.
        content: What to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    # The temporary file is private to this user; the answer is not.
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def model_argument(text: str) -> tuple[Path, Path]:
    """Split ``DIR=FILE``.

    Args:
        text: The value of one ``--model``.

    Raises:
        argparse.ArgumentTypeError: It has another shape.
    """
    model, _, out = text.partition("=")
    if not model or not out:
        message = f"{text!r} is not DIR=FILE (model folder, file for the answer)"
        raise argparse.ArgumentTypeError(message)
    return Path(model), Path(out)


def main(arguments: list[str] | None = None) -> int:
    """Write the answers that the command line asks for.

    Args:
        arguments: The command line without the program, by default the process's own.

    Returns:
        Exit status 0. A wrong command line exits with 2.
    """
    parser = argparse.ArgumentParser(description="Write the greedy answer of a model run by transformers.")
    parser.add_argument(
        "--model",
        type=model_argument,
        action="append",
        required=True,
        metavar="DIR=FILE",
        help="model folder and the JSON file for its answer; repeatable",
    )
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--max-new-tokens", type=int, default=DEFAULT_NEW_TOKENS, help="default: %(default)s")
    options = parser.parse_args(arguments)

    transformers.logging.disable_progress_bar()
    for model, out in options.model:
        write_atomically(out, answer(model, options.prompt, options.max_new_tokens))
    return 0


if __name__ == "__main__":
    sys.exit(main())
