"""The architectures of the stand-in models: configuration and weights of each, as its released models have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import vision_tower
from stand_in_tokenizer import END_OF_TEXT, TURN_END, VOCABULARY_SIZE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HIDDEN_SIZE = 128
INTERMEDIATE_SIZE = 256
LAYERS = 2
HEADS = 4
CONTEXT_LENGTH = 4096
INITIALIZER_RANGE = 0.2

Weights = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]
Draw = Callable[..., "np.ndarray[Any, np.dtype[np.float32]]"]


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
