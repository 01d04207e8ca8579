"""The architectures that SGLang serves here, with its own implementations.

Naming them spares each scheduler the import of some 270 other model files: SGLang takes a model that is in
the table without loading the rest (``_ModelRegistry.resolve_model_cls``). Any other is still found, more
slowly.
"""

from sglang.srt.models.deepseek_common.attention_backend_handler import AttentionBackendRegistry
from sglang.srt.models.deepseek_common.attention_forward_methods.forward_methods import AttnForwardMethod
from sglang.srt.models.deepseek_v2 import DeepseekV2ForCausalLM
from sglang.srt.models.qwen3 import Qwen3ForCausalLM

EntryClass = [DeepseekV2ForCausalLM, Qwen3ForCausalLM]

# For an attention backend that it does not know, SGLang takes triton's choice, which turns the prefill of a
# DeepSeek model into ordinary multi-head attention over a cache that torch_native does not lay out for it.
# With the latent form for both phases torch_native works.
AttentionBackendRegistry.register("torch_native", lambda _attention, _batch: AttnForwardMethod.MLA)
