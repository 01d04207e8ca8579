"""The eyes of a stand-in for Qwen2.5-VL: a vision tower with random weights, and how text and pictures meet.

Names and shapes are those of the released checkpoints (Qwen/Qwen2.5-VL-7B-Instruct: ``config.json``,
``preprocessor_config.json``, ``chat_template.json``), with smaller numbers. `make_model.py` adds the language model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

DEPTH = 2
WIDTH = 64
HEADS = 4
INTERMEDIATE_SIZE = 128
PATCH_SIZE = 14
# So many patches in each direction become one token, and so many frames one picture (a still is doubled).
MERGE_SIZE = 2
TEMPORAL_PATCH_SIZE = 2
CHANNELS = 3
# A picture has between 4 and 256 tokens, 28 x 28 pixels each, so a request has room beside it.
MIN_PIXELS = 4 * 28 * 28
MAX_PIXELS = 256 * 28 * 28

VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = (VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)

# A message's content is a text, or parts in OpenAI's form: {"type": "text"} and {"type": "image_url"}.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

Weights = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]
Draw = Callable[..., "np.ndarray[Any, np.dtype[np.float32]]"]


def vision_config(hidden_size: int) -> dict[str, Any]:
    """Return ``vision_config`` of ``config.json``.

    Args:
        hidden_size: Width of the language model, which each picture token gets.
    """
    return {
        "model_type": "qwen2_5_vl",
        "depth": DEPTH,
        "hidden_size": WIDTH,
        "hidden_act": "silu",
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_heads": HEADS,
        "in_chans": CHANNELS,
        "in_channels": CHANNELS,
        "out_hidden_size": hidden_size,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "spatial_patch_size": PATCH_SIZE,
        "temporal_patch_size": TEMPORAL_PATCH_SIZE,
        "window_size": 112,
        # The first layer sees windows of 8 x 8 patches, the second the whole picture.
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }


def vision_weights(draw: Draw, hidden_size: int) -> Weights:
    """Draw the tower's weights.

    Args:
        draw: Returns random numbers of the given shape.
        hidden_size: Width of the language model.
    """
    merged = WIDTH * MERGE_SIZE**2
    weights = {
        "visual.patch_embed.proj.weight": draw(WIDTH, CHANNELS, TEMPORAL_PATCH_SIZE, PATCH_SIZE, PATCH_SIZE),
        "visual.merger.ln_q.weight": np.ones(WIDTH, np.float32),
        "visual.merger.mlp.0.weight": draw(merged, merged),
        "visual.merger.mlp.0.bias": draw(merged),
        "visual.merger.mlp.2.weight": draw(hidden_size, merged),
        "visual.merger.mlp.2.bias": draw(hidden_size),
    }
    for block in range(DEPTH):
        prefix = f"visual.blocks.{block}."
        weights[prefix + "norm1.weight"] = np.ones(WIDTH, np.float32)
        weights[prefix + "norm2.weight"] = np.ones(WIDTH, np.float32)
        for name, outputs, inputs in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.gate_proj", INTERMEDIATE_SIZE, WIDTH),
            ("mlp.up_proj", INTERMEDIATE_SIZE, WIDTH),
            ("mlp.down_proj", WIDTH, INTERMEDIATE_SIZE),
        ):
            weights[f"{prefix}{name}.weight"] = draw(outputs, inputs)
            weights[f"{prefix}{name}.bias"] = draw(outputs)
    return weights


def preprocessor_config() -> dict[str, Any]:
    """Return ``preprocessor_config.json``: how a picture becomes patches. Mean and deviation are CLIP's."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": MIN_PIXELS,
        "max_pixels": MAX_PIXELS,
        "patch_size": PATCH_SIZE,
        "temporal_patch_size": TEMPORAL_PATCH_SIZE,
        "merge_size": MERGE_SIZE,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
