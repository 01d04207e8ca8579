"""How many bytes of KV cache a prompt has in a model."""

from __future__ import annotations

from typing import Any

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


def bytes_per_token(config: dict[str, Any]) -> int:
    """Return the KV cache of one token over all layers, in bytes.

    Attention with grouped heads keeps a key and a value per KV head and layer. Multi-head latent attention (MLA)
    keeps one latent vector and one rotary key per layer instead, whatever the number of heads (DeepSeek-V2,
    arXiv:2405.04434, section 2.1).

    Args:
        config: the model's config.json.

    Raises:
        ValueError: the configuration lacks what it needs; the text names it.
    """
    layers = _positive(config, "num_hidden_layers")
    name = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    if name not in _DTYPE_BYTES:
        raise ValueError(f"config.json: dtype is {name}, not one of {', '.join(_DTYPE_BYTES)}")
    if config.get("kv_lora_rank"):
        width = _positive(config, "kv_lora_rank") + _positive(config, "qk_rope_head_dim")
    else:
        heads = config.get("num_key_value_heads") or _positive(config, "num_attention_heads")
        head = config.get("head_dim") or _positive(config, "hidden_size") // _positive(config, "num_attention_heads")
        width = 2 * int(heads) * int(head)
    return layers * width * _DTYPE_BYTES[name]


def _positive(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"config.json: {key} is {value!r}, not a positive number")
    return value
