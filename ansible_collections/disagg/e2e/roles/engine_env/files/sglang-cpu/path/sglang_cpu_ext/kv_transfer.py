"""Let a prefill server hand its KV cache to Mooncake without CUDA.

``_send_kv_chunk`` in ``srt/disaggregation/prefill.py`` copies page numbers into pinned memory and records a
CUDA event for senders that accept this. Both raise on a CPU. Its other branch, for senders that do not, hands
the same numbers over directly. The attribute has no other reader in 0.5.23.
"""

from sglang.srt.disaggregation.mooncake.conn import MooncakeKVSender

MooncakeKVSender.supports_host_tensor_indices = False
