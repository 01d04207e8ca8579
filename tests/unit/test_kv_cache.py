"""The KV cache of a prompt, against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness.kv_cache import Moved, bytes_per_token, moved_bytes

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

MLA = {"num_hidden_layers": 2, "kv_lora_rank": 64, "qk_rope_head_dim": 16, "num_attention_heads": 4}
GROUPED = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}


def test_latent_attention_keeps_one_vector_per_layer() -> None:
    # 13 tokens, 2 layers, 64 latent + 16 rotary numbers of 4 bytes; the number of heads does not matter.
    assert 13 * bytes_per_token({**MLA, "dtype": "float32"}) == 8320


def test_grouped_attention_keeps_a_key_and_a_value_per_kv_head() -> None:
    # 2 layers, key and value, 2 heads of 32 numbers of 4 bytes.
    assert bytes_per_token({**GROUPED, "torch_dtype": "float32"}) == 1024


def test_qwen3_8b() -> None:
    # Its published config.json: 36 layers, 8 KV heads of 128, bfloat16: 144 KiB per token.
    shape = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    assert bytes_per_token({**shape, "hidden_size": 4096, "torch_dtype": "bfloat16"}) == 147456


def test_deepseek_v2_lite() -> None:
    # Its published config.json: 27 layers, 512 latent + 64 rotary, bfloat16.
    shape = {"num_hidden_layers": 27, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_attention_heads": 16}
    assert bytes_per_token({**shape, "dtype": "bfloat16"}) == 31104


def test_without_head_dim_and_groups_the_hidden_size_is_divided() -> None:
    shape = {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 64, "dtype": "float16"}
    assert bytes_per_token(shape) == 2 * 4 * 16 * 2


@pytest.mark.parametrize(
    ("name", "size"), [("float32", 4), ("torch.bfloat16", 2), ("float16", 2), ("float8_e4m3fn", 1)]
)
def test_every_dtype_has_its_size(name: str, size: int) -> None:
    assert bytes_per_token({**GROUPED, "dtype": name}) == 256 * size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"dtype": "int4"}, "dtype is int4, not one of float32"),
        ({"dtype": None}, "dtype is None"),
        ({"num_key_value_heads": None, "num_attention_heads": "4"}, "num_attention_heads is '4'"),
        ({"head_dim": None}, "hidden_size is None"),
        ({"kv_lora_rank": 64}, "qk_rope_head_dim is None"),
    ],
)
def test_what_lacks_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bytes_per_token({**GROUPED, "dtype": "float32", **change})


# Measured with SGLang 0.5.23 and Mooncake 0.3.13 on a CPU, prompts of 8 tokens: what the prefill ranks counted.
@pytest.mark.parametrize(
    ("prefill", "decode", "grouped", "latent"),
    [(1, 1, 8192, 5120), (1, 2, 8192, 10240), (2, 1, 8192, 10240), (2, 2, 8192, 10240)],
)
def test_ranks_count_what_was_measured(prefill: int, decode: int, grouped: int, latent: int) -> None:
    assert moved_bytes({**GROUPED, "dtype": "float32"}, 8, prefill, decode).counted == grouped
    assert moved_bytes({**MLA, "dtype": "float32"}, 8, prefill, decode).counted == latent


@pytest.mark.parametrize(("prefill", "decode", "carried"), [(1, 1, 5120), (1, 2, 10240), (2, 1, 5120), (2, 4, 20480)])
def test_each_decode_rank_gets_the_whole_latent_cache(prefill: int, decode: int, carried: int) -> None:
    assert moved_bytes({**MLA, "dtype": "float32"}, 8, prefill, decode).carried == carried


def test_ranks_beyond_the_heads_hold_a_head_once_more() -> None:
    # Two heads over four ranks: each has one, so there are four.
    assert moved_bytes({**GROUPED, "dtype": "float32"}, 8, 4, 1) == Moved(counted=16384, carried=8192)
    assert moved_bytes({**GROUPED, "dtype": "float32"}, 8, 1, 4) == Moved(counted=8192, carried=16384)


def test_without_groups_every_head_is_a_kv_head() -> None:
    shape = {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 64, "dtype": "float16"}
    assert moved_bytes(shape, 3, 2, 2) == Moved(counted=3 * 256, carried=3 * 256)
