"""The tokenizer of the stand-in models: byte-level BPE, trained on words that are the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

VOCABULARY_SIZE = 2048
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
