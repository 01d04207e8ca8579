"""How many bytes a prompt's KV cache has."""

from typing import Any

import pytest

from pyharness.simulator.geometry import Geometry, GeometryError

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

PLAIN = {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 32, "torch_dtype": "float32"}
LATENT = {"num_hidden_layers": 2, "kv_lora_rank": 64, "qk_rope_head_dim": 16, "torch_dtype": "float32"}


def test_thirteen_tokens_of_a_latent_model_are_what_sglang_moved() -> None:
    assert 13 * Geometry.from_config(LATENT).bytes_per_token == 8320


def test_other_attention_keeps_a_key_and_a_value_per_head() -> None:
    assert Geometry.from_config(PLAIN).bytes_per_token == 2 * 2 * 2 * 32 * 4


def test_half_precision_and_the_newer_name_of_the_dtype_are_understood() -> None:
    config: dict[str, Any] = {**PLAIN, "dtype": "bfloat16"}
    del config["torch_dtype"]
    assert Geometry.from_config(config).bytes_per_token == 2 * 2 * 2 * 32 * 2


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({**PLAIN, "num_hidden_layers": 0}, "num_hidden_layers"),
        ({**PLAIN, "num_key_value_heads": "2"}, "num_key_value_heads"),
        ({**PLAIN, "head_dim": True}, "head_dim"),
        ({**LATENT, "qk_rope_head_dim": None}, "qk_rope_head_dim"),
        ({**PLAIN, "torch_dtype": "float8"}, "torch_dtype"),
        ({}, "num_key_value_heads"),
    ],
)
def test_an_unusable_configuration_is_refused_by_its_key(config: dict[str, Any], key: str) -> None:
    with pytest.raises(GeometryError, match=key):
        Geometry.from_config(config)
