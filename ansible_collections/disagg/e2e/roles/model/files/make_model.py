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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import vision_tower
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY_SIZE = 2048
HIDDEN_SIZE = 128
INTERMEDIATE_SIZE = 256
LAYERS = 2
HEADS = 4
CONTEXT_LENGTH = 4096
INITIALIZER_RANGE = 0.2
# Of the seeds 0 to 39 the one whose closest call is widest: for the prompt "Let me tell you a short story "
# the best of all 128 greedy tokens leads the second best by at least 0.013 (qwen3) and 0.022 (deepseek_v2), a
# thousand times the rounding error of float32 here. Choose anew when shapes, words or the order of the
# drawing change.
DEFAULT_SEED = 36

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The tokenizer's whole training text comes from these words, because no text file is sure to be the same on
# every machine. BPE sees only words and how often they occur, so sentences would add nothing.
FUNCTION_WORDS = (
    "the of and to a in is you that it he was for on are as with his they I at be this have from or one had "
    "by but not what all were we when your can said there use an each which she do how their if will up "
    "other about out many then them these so some her would make like him into time has look two more write "
    "go see number no way could people my than first been who its now Let me tell a short story"
)
STEMS = (
    "answer apple arrow autumn basket beacon bird blanket blossom boat border branch breeze bridge bright "
    "brother bucket butter candle canvas castle circle cloud cobble copper corner cotton cradle crystal "
    "dance desert dinner distant dragon dream drift eagle early earth echo ember empty evening fable farmer "
    "feather field finger flame flower forest fountain friend frost garden gather gentle giant glass golden "
    "grain granite harbor harvest heather hidden hollow honey hunter island ivory jacket jewel journey "
    "kettle kitchen kitten ladder lantern laugh leather lemon letter linger listen little lonely market "
    "marble meadow melody merchant midnight mirror morning mountain music narrow needle northern ocean "
    "olive orchard orange paper patient pebble pepper picture pillow planet plenty pocket prairie promise "
    "puzzle quarry quiet rabbit random raven ribbon riddle river rocket rubble saddle sailor scatter season "
    "secret shadow shelter shepherd shimmer silent silver singer sister sleep slender smoke sparrow spiral "
    "spring station stone storm stranger summer sunset table tailor tangle temple thunder timber token "
    "tower travel treasure tumble turtle twilight valley velvet village violet voyage wander water weather "
    "whisper willow window winter wisdom wonder yellow yonder"
)
SUFFIXES = ("", "s", "ed", "ing", "er", "ly", "ness", "ful", "less", "ish")

Weights = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]
Draw = Callable[..., "np.ndarray[Any, np.dtype[np.float32]]"]


def training_words() -> Iterator[str]:
    """Yield the tokenizer's training text word by word, frequent words more often, as in a language."""
    for word in FUNCTION_WORDS.split():
        yield from [f" {word}"] * 40
    yield from ["Let"] * 40
    for rank, stem in enumerate(STEMS.split()):
        for place, suffix in enumerate(SUFFIXES):
            yield from [f" {stem}{suffix}"] * (2 + 20 // (1 + rank % 7 + place))


def make_tokenizer(special_tokens: tuple[str, ...] = ()) -> Tokenizer:
    """Train the byte-level BPE tokenizer.

    Args:
        special_tokens: What the architecture has besides those that all have.

    Returns:
        The tokenizer with exactly ``VOCABULARY_SIZE`` entries, so that no token the model can give is unknown
        to it.

    Raises:
        ValueError: The training text was too small for the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END, *special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_words(), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY_SIZE:
        message = f"the training text gave {tokenizer.get_vocab_size()} tokens, {VOCABULARY_SIZE} are needed"
        raise ValueError(message)
    return tokenizer


def mute_unprintable(head: np.ndarray[Any, np.dtype[np.float32]], tokenizer: Tokenizer) -> None:
    """Zero the output rows of all tokens that are not printable ASCII text on their own.

    Args:
        head: Output matrix of shape (vocabulary, hidden), changed in place.
        tokenizer: The tokenizer whose token numbers are the rows.
    """
    for token in range(VOCABULARY_SIZE):
        text = tokenizer.decode([token], skip_special_tokens=True)
        if not (text and text.isascii() and text.isprintable()):
            head[token] = 0


def common_config(architecture: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the part of ``config.json`` that both architectures share.

    Args:
        architecture: Class name as transformers spells it.
        tokenizer: Gives the number of the token that ends an answer.
    """
    return {
        "architectures": [architecture],
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": CONTEXT_LENGTH,
        "initializer_range": INITIALIZER_RANGE,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(TURN_END),
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "dtype": "float32",
    }


def common_weights(draw: Draw) -> Weights:
    """Draw what both architectures share: embeddings, norms and the feed-forward part.

    Args:
        draw: Returns random numbers of the given shape.
    """
    ones = np.ones(HIDDEN_SIZE, np.float32)
    weights = {
        "model.embed_tokens.weight": draw(VOCABULARY_SIZE, HIDDEN_SIZE),
        "lm_head.weight": draw(VOCABULARY_SIZE, HIDDEN_SIZE),
        "model.norm.weight": ones,
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights[prefix + "input_layernorm.weight"] = ones
        weights[prefix + "post_attention_layernorm.weight"] = ones
        weights[prefix + "mlp.gate_proj.weight"] = draw(INTERMEDIATE_SIZE, HIDDEN_SIZE)
        weights[prefix + "mlp.up_proj.weight"] = draw(INTERMEDIATE_SIZE, HIDDEN_SIZE)
        weights[prefix + "mlp.down_proj.weight"] = draw(HIDDEN_SIZE, INTERMEDIATE_SIZE)
    return weights


def qwen3(draw: Draw, tokenizer: Tokenizer) -> tuple[dict[str, Any], Weights]:
    """Describe a Qwen3 model: grouped-query attention, 2 x 2 x 32 cached numbers per token and layer.

    Args:
        draw: Returns random numbers of the given shape.
        tokenizer: The tokenizer that goes with the model.

    Returns:
        The content of ``config.json`` and the weights by name.
    """
    kv_heads, head_dim = 2, 32
    config = common_config("Qwen3ForCausalLM", tokenizer) | {
        "model_type": "qwen3",
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "rope_theta": 10000.0,
    }
    weights = common_weights(draw)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn."
        weights[prefix + "q_proj.weight"] = draw(HEADS * head_dim, HIDDEN_SIZE)
        weights[prefix + "k_proj.weight"] = draw(kv_heads * head_dim, HIDDEN_SIZE)
        weights[prefix + "v_proj.weight"] = draw(kv_heads * head_dim, HIDDEN_SIZE)
        weights[prefix + "o_proj.weight"] = draw(HIDDEN_SIZE, HEADS * head_dim)
        weights[prefix + "q_norm.weight"] = np.ones(head_dim, np.float32)
        weights[prefix + "k_norm.weight"] = np.ones(head_dim, np.float32)
    return config, weights


def deepseek_v2(draw: Draw, tokenizer: Tokenizer) -> tuple[dict[str, Any], Weights]:
    """Describe a DeepSeek-V2 model: multi-head latent attention, 64 + 16 cached numbers per token and layer.

    Args:
        draw: Returns random numbers of the given shape.
        tokenizer: The tokenizer that goes with the model.

    Returns:
        The content of ``config.json`` and the weights by name.
    """
    latent, nope, rope, value = 64, 32, 16, 32
    config = common_config("DeepseekV2ForCausalLM", tokenizer) | {
        "model_type": "deepseek_v2",
        "num_key_value_heads": HEADS,
        "kv_lora_rank": latent,
        "q_lora_rank": None,
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": value,
        # All layers dense. The expert settings stay, as both implementations read them without a default.
        "first_k_dense_replace": LAYERS,
        "moe_layer_freq": 1,
        "moe_intermediate_size": 64,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "greedy",
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        # SGLang serves MLA on a CPU with this kind of position encoding only. As in the released DeepSeek-V2.
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "yarn",
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": CONTEXT_LENGTH // 4,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 0.707,
            "mscale_all_dim": 0.707,
        },
    }
    weights = common_weights(draw)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn."
        weights[prefix + "q_proj.weight"] = draw(HEADS * (nope + rope), HIDDEN_SIZE)
        weights[prefix + "kv_a_proj_with_mqa.weight"] = draw(latent + rope, HIDDEN_SIZE)
        weights[prefix + "kv_a_layernorm.weight"] = np.ones(latent, np.float32)
        weights[prefix + "kv_b_proj.weight"] = draw(HEADS * (nope + value), latent)
        weights[prefix + "o_proj.weight"] = draw(HIDDEN_SIZE, HEADS * value)
    return config, weights


def qwen2_5_vl(draw: Draw, tokenizer: Tokenizer) -> tuple[dict[str, Any], Weights]:
    """Describe a Qwen2.5-VL model: a vision tower, and a Qwen2 with positions in three dimensions (M-RoPE).

    Args:
        draw: Returns random numbers of the given shape.
        tokenizer: The tokenizer that goes with the model.

    Returns:
        The content of ``config.json`` (flat, as released: the language model's keys on top) and the weights by name.
    """
    kv_heads, head_dim = 2, HIDDEN_SIZE // HEADS
    config = common_config("Qwen2_5_VLForConditionalGeneration", tokenizer) | {
        "model_type": "qwen2_5_vl",
        "num_key_value_heads": kv_heads,
        "rope_theta": 10000.0,
        # How many of the 16 pairs of a head turn with time, height and width.
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        "vision_config": vision_tower.vision_config(HIDDEN_SIZE),
        "vision_start_token_id": tokenizer.token_to_id(vision_tower.VISION_START),
        "vision_end_token_id": tokenizer.token_to_id(vision_tower.VISION_END),
        "vision_token_id": tokenizer.token_to_id(vision_tower.IMAGE_PAD),
        "image_token_id": tokenizer.token_to_id(vision_tower.IMAGE_PAD),
        "video_token_id": tokenizer.token_to_id(vision_tower.VIDEO_PAD),
    }
    weights = common_weights(draw) | vision_tower.vision_weights(draw, HIDDEN_SIZE)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn."
        for name, heads in (("q_proj", HEADS), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            weights[f"{prefix}{name}.weight"] = draw(heads * head_dim, HIDDEN_SIZE)
            weights[f"{prefix}{name}.bias"] = draw(heads * head_dim)
        weights[prefix + "o_proj.weight"] = draw(HIDDEN_SIZE, HEADS * head_dim)
    return config, weights


def deepseek_v2_moe(draw: Draw, tokenizer: Tokenizer) -> tuple[dict[str, Any], Weights]:
    """Describe a DeepSeek-V2 model whose layers after the first are mixtures of experts, as in the released ones.

    Args:
        draw: Returns random numbers of the given shape.
        tokenizer: The tokenizer that goes with the model.

    Returns:
        The content of ``config.json`` and the weights by name.
    """
    experts, shared, width, dense = 8, 2, 64, 1
    config, weights = deepseek_v2(draw, tokenizer)
    config |= {
        "first_k_dense_replace": dense,
        "moe_intermediate_size": width,
        "n_routed_experts": experts,
        "n_shared_experts": shared,
        "num_experts_per_tok": 2,
    }
    for layer in range(dense, LAYERS):
        prefix = f"model.layers.{layer}.mlp."
        for name in ("gate_proj", "up_proj", "down_proj"):
            del weights[f"{prefix}{name}.weight"]
        weights[prefix + "gate.weight"] = draw(experts, HIDDEN_SIZE)
        parts = {f"experts.{number}.": width for number in range(experts)} | {"shared_experts.": shared * width}
        for name, size in parts.items():
            weights[f"{prefix}{name}gate_proj.weight"] = draw(size, HIDDEN_SIZE)
            weights[f"{prefix}{name}up_proj.weight"] = draw(size, HIDDEN_SIZE)
            weights[f"{prefix}{name}down_proj.weight"] = draw(HIDDEN_SIZE, size)
    return config, weights


ARCHITECTURES = {
    "qwen3": qwen3,
    "deepseek_v2": deepseek_v2,
    "deepseek_v2_moe": deepseek_v2_moe,
    "qwen2_5_vl": qwen2_5_vl,
}
# Those that see pictures: their tokenizer, chat template and preprocessor know of them.
WITH_VISION = ("qwen2_5_vl",)


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
