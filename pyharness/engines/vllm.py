"""vLLM: its OpenAI API, its metrics. Names read in vllm 0.32.0, vllm/v1/metrics/loggers.py."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pyharness.engines import openai
from pyharness.engines.base import Answer, Counters

_PROMPT_TOKENS = "vllm:prompt_tokens_by_source_total"
_COMPUTED = "local_compute"
_EXTERNAL = "external_kv_transfer"
_CACHE = "vllm:cache_config_info"


class VLLM:
    """The engine."""

    metrics_path = "/metrics"
    models_path = "/v1/models"

    def one_token(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request for one token, of a prompt that shares no block of tokens with the request under test."""
        prompt = {"messages": [{"role": "user", "content": "Ready?"}]} if "messages" in body else {"prompt": "Ready?"}
        return {**body, **prompt, "max_tokens": 1}

    def answer(self, document: Any) -> Answer:
        """Read the answer of /v1/chat/completions or /v1/completions."""
        return openai.read_answer(document)

    def served_models(self, document: Any) -> list[str]:
        """Read /v1/models."""
        return openai.read_models(document)

    def counters(self, metrics: str) -> Counters:
        """Read /metrics, summed over all engines of the server.

        With Mooncake's connector vLLM counts where a prompt's tokens came from, and neither bytes nor transfers nor
        failures of them (a to-do in its mooncake/stats.py).
        """
        tokens: dict[str, float] = {}
        block_size = None
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                if sample.name == _PROMPT_TOKENS:
                    source = sample.labels.get("source", "")
                    tokens[source] = tokens.get(source, 0.0) + sample.value
                elif sample.name == _CACHE and sample.labels.get("block_size", "").isdecimal():
                    block_size = int(sample.labels["block_size"])
        try:
            return Counters(
                transferred_bytes=None,
                transfers=None,
                failed_transfers=None,
                computed_tokens=round(tokens[_COMPUTED]) if _COMPUTED in tokens else None,
                page_size=block_size,
                external_tokens=round(tokens[_EXTERNAL]) if _EXTERNAL in tokens else None,
            )
        except OverflowError as error:
            raise ValueError("/metrics holds an infinite counter") from error
