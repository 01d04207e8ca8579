"""Let routed experts be spread over several ranks without CUDA (expert parallelism).

With ``--ep-size`` above 1 a rank holds some of the experts, and SGLang gives those of other ranks the number -1
(``srt/layers/moe/token_dispatcher/standard.py``). The CUDA kernels leave them out. The torch implementation for
a CPU, ``moe_forward_native`` in ``srt/layers/moe/fused_moe_native.py``, takes -1 for an index and fails with
"index -1 is out of bounds". Here it is asked for the experts of this rank only; SGLang adds up what the ranks
found, as it does on GPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sglang.srt.layers.moe import fused_moe_native

if TYPE_CHECKING:
    from sglang.srt.layers.moe.moe_runner import MoeRunnerConfig
    from sglang.srt.layers.moe.topk import StandardTopKOutput

all_experts_here = fused_moe_native.moe_forward_native


def experts_of_this_rank(
    layer: torch.nn.Module, x: torch.Tensor, topk_output: StandardTopKOutput, moe_runner_config: MoeRunnerConfig
) -> torch.Tensor:
    """Return what this rank's experts give for the tokens that chose them, zeros for the others.

    Args:
        layer: The layer with this rank's experts.
        x: Hidden states, one row for each token.
        topk_output: For each token its experts' numbers on this rank (-1: on another one) and weights.
        moe_runner_config: As the original takes it.
    """
    weights, experts, _logits = topk_output
    tokens, places = (experts >= 0).nonzero(as_tuple=True)
    if len(tokens) == experts.numel():
        return all_experts_here(layer, x, topk_output, moe_runner_config)
    summed = torch.zeros_like(x)
    if len(tokens) > 0:
        # A row for each pair of a token and an expert, so that every row has exactly one expert, and one of here.
        pairs = topk_output._replace(
            topk_weights=weights[tokens, places].unsqueeze(1), topk_ids=experts[tokens, places].unsqueeze(1)
        )
        summed.index_add_(0, tokens, all_experts_here(layer, x[tokens], pairs, moe_runner_config))
    return summed


fused_moe_native.moe_forward_native = experts_of_this_rank
