"""The simulated tokenizer and the words of the simulated answers.

A prompt has one token per UTF-8 byte (ids 0-255). An answer is made of whole words, one token each (ids
from 256 on), so that it stays readable and ``max_new_tokens`` counts words. The model folder's
``tokenizer.json`` describes exactly this vocabulary, so a router or a tokenizer library counts the same.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

BYTE_TOKENS: Final = 256
_WORDS: Final = (
    "amber anchor apple arrow autumn bamboo basin beacon birch bridge bronze candle canyon cedar cloud",
    "copper coral cotton crystal desert dolphin eagle ember falcon feather forest garden glacier",
    "granite harbor hazel horizon island ivory jasmine juniper kettle lantern lemon linen maple marble",
    "meadow mirror mountain needle ocean olive orchid pebble pepper pine planet quartz ribbon river",
    "saddle silver spring summit thunder tulip valley willow",
)
WORDS: Final = tuple(" ".join(_WORDS).split())
END_TOKEN: Final = BYTE_TOKENS + len(WORDS)
"""Id of the token that ends an answer; it is not part of the text and is not counted."""
VOCABULARY_SIZE: Final = END_TOKEN + 1
SHORTEST_ANSWER: Final = 16
LONGEST_ANSWER: Final = 32


def encode(text: str) -> list[int]:
    """Turn a prompt into token ids: its UTF-8 bytes."""
    return list(text.encode())


def decode(ids: Sequence[int]) -> str:
    """Turn the token ids of an answer into its text.

    Args:
        ids: Ids of answer words, as `answer_ids` makes them.

    Raises:
        IndexError: An id is not a word's.
    """
    return "".join(f" {WORDS[token - BYTE_TOKENS]}" for token in ids)


def answer_ids(kv_cache: bytes, max_new_tokens: int, *, ignore_end: bool = False) -> list[int]:
    """Derive the answer from the bytes of a KV cache, and from nothing else.

    One flipped or missing byte changes the whole answer, so a decode engine can only say the right words
    when the cache arrived intact. A shorter answer to the same cache is a prefix of a longer one.

    Args:
        kv_cache: The prompt's whole KV cache.
        max_new_tokens: Most tokens (words) that the answer may have.
        ignore_end: Go on to `max_new_tokens` instead of ending naturally after 16 to 32 words.
    """
    draw = hashlib.shake_256(kv_cache).digest(1 + max(max_new_tokens, LONGEST_ANSWER))
    natural = SHORTEST_ANSWER + draw[0] % (LONGEST_ANSWER - SHORTEST_ANSWER + 1)
    length = max_new_tokens if ignore_end else min(max_new_tokens, natural)
    return [BYTE_TOKENS + byte % len(WORDS) for byte in draw[1 : 1 + length]]


def chat_prompt(messages: Sequence[tuple[str, str]]) -> str:
    """Join chat messages, given as (role, content), into the prompt that the model sees."""
    return "".join(f"<|{role}|>{content}\n" for role, content in messages) + "<|assistant|>"


CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""`chat_prompt` as the Jinja template of ``tokenizer_config.json``."""


def _byte_symbols() -> list[str]:
    """Name each byte by the printable character that byte-level BPE vocabularies, as GPT-2's, use for it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(BYTE_TOKENS) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {
        byte: chr(BYTE_TOKENS + place) for place, byte in enumerate(rest)
    }
    return [symbols[byte] for byte in range(BYTE_TOKENS)]


def tokenizer_json() -> dict[str, Any]:
    """Describe the vocabulary in the form of Hugging Face's ``tokenizers``: byte-level BPE without merges."""
    symbols = _byte_symbols()
    vocabulary = {symbol: token for token, symbol in enumerate(symbols)}
    space = symbols[ord(" ")]
    vocabulary |= {space + word: BYTE_TOKENS + place for place, word in enumerate(WORDS)}
    vocabulary["<|end|>"] = END_TOKEN
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": END_TOKEN,
                "content": "<|end|>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
