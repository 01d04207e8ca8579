"""How many bytes of KV cache a prompt has in a model, and how many of them move between servers of several ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


def dtype_bytes(config: dict[str, Any]) -> int:
    """Return the size of one number of the model in bytes.

    Raises:
        ValueError: config.json names no type that is known.
    """
    name = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    if name not in _DTYPE_BYTES:
        raise ValueError(f"config.json: dtype is {name}, not one of {', '.join(_DTYPE_BYTES)}")
    return _DTYPE_BYTES[name]


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
    if config.get("kv_lora_rank"):
        width = _positive(config, "kv_lora_rank") + _positive(config, "qk_rope_head_dim")
    else:
        heads = config.get("num_key_value_heads") or _positive(config, "num_attention_heads")
        head = config.get("head_dim") or _positive(config, "hidden_size") // _positive(config, "num_attention_heads")
        width = 2 * int(heads) * int(head)
    return layers * width * dtype_bytes(config)


@dataclass(frozen=True)
class Moved:
    """What moving one prompt's KV cache comes to, in bytes.

    Attributes:
        counted: what SGLang's prefill ranks count for it, all together.
        carried: what has to cross from prefill to decode, at the least.
    """

    counted: int
    carried: int


def moved_bytes(config: dict[str, Any], tokens: int, prefill_ranks: int = 1, decode_ranks: int = 1) -> Moved:
    """Return what moves from a prefill server to a decode server, each split over ranks by tensor parallelism.

    KV heads are dealt out to the ranks; with more ranks than heads several ranks hold the same one. With MLA every
    rank holds the whole latent cache, so each decode rank gets all of it. Prefill counts what its ranks hold times
    the decode ranks that each of them serves; where several MLA prefill ranks stand before one decode rank, all count
    and one sends. Read in sglang 0.5.23, srt/disaggregation/common/conn.py (get_transfer_metric,
    resolve_kv_replica_factor), and measured there with 1 and 2 ranks on either side.

    Args:
        config: the model's config.json.
        tokens: length of the prompt, in whole pages.
        prefill_ranks: tensor parallelism of prefill.
        decode_ranks: tensor parallelism of decode.

    Raises:
        ValueError: the configuration lacks what it needs; the text names it.
    """
    once = tokens * bytes_per_token(config)
    if config.get("kv_lora_rank"):
        return Moved(counted=once * max(prefill_ranks, decode_ranks), carried=once * decode_ranks)
    heads = int(config.get("num_key_value_heads") or _positive(config, "num_attention_heads"))
    head = once // heads
    return Moved(counted=head * max(heads, prefill_ranks), carried=head * max(heads, decode_ranks))


def _positive(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"config.json: {key} is {value!r}, not a positive number")
    return value
