"""The simulated model: a folder that looks like a Hugging Face model, and the KV cache it "computes"."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyharness.simulator import text
from pyharness.simulator.files import json_bytes, write_folder
from pyharness.simulator.geometry import Geometry, GeometryError

CONTEXT_LENGTH: Final = 4096
_SEED_KEY: Final = "simulator_seed"
_COMMON: Final[dict[str, Any]] = {
    "torch_dtype": "float32",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": text.VOCABULARY_SIZE,
    "max_position_embeddings": CONTEXT_LENGTH,
    "bos_token_id": None,
    "eos_token_id": text.END_TOKEN,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "initializer_range": 0.2,
}
_ARCHITECTURES: Final[dict[str, dict[str, Any]]] = {
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_key_value_heads": 2,
        "head_dim": 32,
    },
    "deepseek_v2": {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 64,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        # Dense layers only: the simulated model has no experts to route to.
        "first_k_dense_replace": 2,
        "moe_layer_freq": 1,
    },
}
ARCHITECTURES: Final = tuple(_ARCHITECTURES)


class ModelError(Exception):
    """A folder holds no model that the simulator can serve, or must not be overwritten."""


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        path: Its folder, as given.
        config: Its ``config.json``.
        geometry: The size of its KV cache.
        identity: Stands for the weights: another configuration or seed computes another KV cache.
    """

    path: str
    config: dict[str, Any]
    geometry: Geometry
    identity: bytes

    @classmethod
    def load(cls, path: str) -> "Model":
        """Read a model folder.

        Args:
            path: Folder with a ``config.json``; any Hugging Face model of a known shape will do.

        Raises:
            ModelError: There is no readable ``config.json``, or it does not give the KV cache's size.
        """
        file = Path(path) / "config.json"
        try:
            config = json.loads(file.read_bytes())
            if not isinstance(config, dict):
                message = f"{file}: expected an object"
                raise ModelError(message)
            geometry = Geometry.from_config(config)
        except (OSError, json.JSONDecodeError, GeometryError) as error:
            message = f"{file}: {error}"
            raise ModelError(message) from error
        identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()
        return cls(path, config, geometry, identity)

    def kv_bytes(self, tokens: int) -> int:
        """Bytes of the KV cache of a prompt with this many tokens; all of them travel, as in SGLang."""
        return tokens * self.geometry.bytes_per_token

    def prefill(self, prompt: Sequence[int]) -> bytes:
        """Compute a prompt's KV cache: pseudo-random bytes fixed by the model and the tokens."""
        packed = b"".join(token.to_bytes(4, "little") for token in prompt)
        return hashlib.shake_256(self.identity + packed).digest(self.kv_bytes(len(prompt)))


def model_files(architecture: str, seed: int) -> dict[str, bytes]:
    """Make the files of a tiny model; the same arguments give the same bytes.

    Args:
        architecture: One of `ARCHITECTURES`.
        seed: Distinguishes models of one architecture: each has its own KV caches and answers.

    Raises:
        KeyError: The architecture is unknown.
    """
    config = _ARCHITECTURES[architecture] | _COMMON | {_SEED_KEY: seed}
    return {
        "config.json": json_bytes(config),
        "tokenizer.json": json_bytes(text.tokenizer_json()),
        "tokenizer_config.json": json_bytes(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<|end|>",
                "model_max_length": CONTEXT_LENGTH,
                "clean_up_tokenization_spaces": False,
                "chat_template": text.CHAT_TEMPLATE,
            }
        ),
    }


def write_model(architecture: str, seed: int, folder: Path) -> bool:
    """Write a tiny model, unless exactly this one is there already.

    Args:
        architecture: One of `ARCHITECTURES`.
        seed: See `model_files`.
        folder: Where to write; parents are made. An earlier model of the simulator's is replaced.

    Returns:
        Whether anything was written.

    Raises:
        ModelError: Something stands there that the simulator did not write.
        OSError: The folder cannot be written.
    """
    files = model_files(architecture, seed)
    if folder.exists():
        if {entry.name: entry.read_bytes() for entry in _files_of_ours(folder)} == files:
            return False
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
    write_folder(folder, files)
    return True


def _files_of_ours(folder: Path) -> list[Path]:
    """List a folder's files once it is known to be a model of the simulator's (or an empty folder)."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    try:
        ours = not entries or _SEED_KEY in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        ours = False
    if not ours or not all(entry.is_file() for entry in entries):
        message = f"{folder} is not a model of the simulator's: it will not be replaced"
        raise ModelError(message)
    return entries
