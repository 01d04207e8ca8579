"""The simulated tokenizer and the answers."""

import pytest

from pyharness.simulator import text

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

KV_CACHE = bytes(range(256)) * 32


def test_a_prompt_has_one_token_per_byte() -> None:
    assert text.encode("hello, world!") == list(b"hello, world!")
    assert len(text.encode("你好")) == 6


def test_an_answer_is_readable_words() -> None:
    ids = text.answer_ids(KV_CACHE, 128)
    assert text.SHORTEST_ANSWER <= len(ids) <= text.LONGEST_ANSWER
    assert text.decode(ids).split() == [text.WORDS[token - text.BYTE_TOKENS] for token in ids]


@pytest.mark.parametrize("place", [0, len(KV_CACHE) // 2, len(KV_CACHE) - 1])
def test_one_flipped_bit_of_the_kv_cache_changes_the_answer(place: int) -> None:
    broken = bytearray(KV_CACHE)
    broken[place] ^= 1
    assert text.answer_ids(bytes(broken), 16) != text.answer_ids(KV_CACHE, 16)


def test_a_missing_byte_changes_the_answer() -> None:
    assert text.answer_ids(KV_CACHE[:-1], 16) != text.answer_ids(KV_CACHE, 16)


def test_a_shorter_answer_is_a_prefix_of_a_longer_one() -> None:
    long = text.answer_ids(KV_CACHE, 128)
    assert text.answer_ids(KV_CACHE, 5) == long[:5]
    assert text.answer_ids(KV_CACHE, 0) == []


def test_ignoring_the_end_goes_on_to_the_limit() -> None:
    ids = text.answer_ids(KV_CACHE, 200, ignore_end=True)
    assert len(ids) == 200
    assert ids[:16] == text.answer_ids(KV_CACHE, 16)


def test_the_tokenizer_file_describes_this_vocabulary() -> None:
    vocabulary = text.tokenizer_json()["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(text.VOCABULARY_SIZE))
    # The names that GPT-2's byte-level vocabulary gives to these bytes.
    known = {
        "!": 0x21,
        "A": 0x41,
        "~": 0x7E,
        "Ġ": 0x20,
        "Ċ": 0x0A,
        "Ā": 0x00,
        "ġ": 0x7F,
        "ÿ": 0xFF,
        "Ń": 0xAD,
    }
    assert {symbol: vocabulary[symbol] for symbol in known} == known
    assert vocabulary["Ġamber"] == text.BYTE_TOKENS
    assert vocabulary["<|end|>"] == text.END_TOKEN


def test_chat_messages_become_one_prompt() -> None:
    prompt = text.chat_prompt([("system", "be brief"), ("user", "hello")])
    assert prompt == "<|system|>be brief\n<|user|>hello\n<|assistant|>"
