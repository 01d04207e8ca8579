"""Name the pages of the hierarchical cache (HiCache) without a C++ compiler.

The name of a page in the storage is a SHA-256 over the tokens, chained from page to page. SGLang 0.5.23 computes it
with ``srt/mem_cache/cpp_utils/hash_binding.cpp``, which it compiles at the first request: that needs a compiler,
ninja, setuptools and OpenSSL's headers on the node, and takes 7 s. ``hashlib`` gives the same names.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from sglang.srt.mem_cache.cpp_utils import native_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_TOKEN = 0xFFFFFFFF


class PageHash:
    """Stands in for the compiled module ``hicache_hash_cpp``, for plain tokens."""

    @staticmethod
    def get_hash(
        raw_tokens: Sequence[int],
        logical_len: int,
        unit_width: int,
        is_bigram: bool,  # noqa: FBT001
        prior_digest: bytes | None,
        page_size: int | None = None,
    ) -> str | list[str]:
        """Hash tokens as a whole, or page by page.

        Args:
            raw_tokens: Token numbers.
            logical_len: How many of them count.
            unit_width: Numbers in a token: always 1.
            is_bigram: Whether a token is hashed with its successor, as speculative decoding (EAGLE) has it.
            prior_digest: Digest of the page before; None for a first page.
            page_size: Tokens in a page; None hashes all of them as one.

        Returns:
            The digest in hexadecimal, or one for each page.

        Raises:
            NotImplementedError: Bigrams, tokens of several numbers or of more than 32 bits.
        """
        tokens = list(raw_tokens[:logical_len])
        if is_bigram or unit_width != 1 or (tokens and max(tokens) > _MAX_TOKEN):
            message = "sglang-cpu: pages are named here for plain 32-bit tokens only, without speculative decoding"
            raise NotImplementedError(message)
        digest, names = prior_digest or b"", []
        for start in range(0, logical_len, page_size) if page_size else [0]:
            page = tokens[start : start + page_size] if page_size else tokens
            digest = hashlib.sha256(digest + struct.pack(f"<{len(page)}I", *page)).digest()
            names.append(digest.hex())
        return names if page_size else names[0]


native_hash._load_native_hash_module = PageHash  # noqa: SLF001 - the one place that loads the compiled module
