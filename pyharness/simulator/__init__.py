"""The simulator: an engine for tests of the harness itself.

It speaks the HTTP of an SGLang server in the three roles of prefill/decode disaggregation, moves a
made-up KV cache from prefill to decode through the real Mooncake TransferEngine, and misbehaves on
demand. It computes no model: a verdict reached with it says nothing about any product, which is why
its version and its ``/server_info`` name it.
"""

from typing import Final

VERSION: Final = "0.5.23+simulator"
"""What it reports as its version: the SGLang release whose HTTP it imitates, and that it only imitates."""
