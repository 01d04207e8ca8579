"""Dynamo 1.6: its frontend's OpenAI surface, its metrics.

Names read in ai-dynamo 1.6.1, `dynamo/prometheus_names.py`, and in what a frontend and the simulated engine tell.
"""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pyharness.engines import openai
from pyharness.engines.base import Answer, Counters

# Of a frontend: requests that it has ended, whatever came of them.
_FRONTEND_REQUESTS = "dynamo_frontend_requests_total"
# Of a worker: requests that it has taken, also those for what its cache holds and the like (label dynamo_endpoint).
_WORKER_REQUESTS = "dynamo_component_requests_total"
_SERVING = "generate"
_BLOCK_SIZE = "dynamo_frontend_model_kv_cache_block_size"


class Dynamo:
    """The engine."""

    metrics_path = "/metrics"
    models_path = "/v1/models"

    def one_token(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request for one token, of a prompt that shares no prefix with the request under test."""
        if "messages" in body:
            return {**body, "messages": [{"role": "user", "content": "Ready?"}], "max_tokens": 1}
        return {**body, "prompt": "Ready?", "max_tokens": 1}

    def answer(self, document: Any) -> Answer:
        """Read the answer of /v1/chat/completions or /v1/completions."""
        return openai.read_answer(document)

    def served_models(self, document: Any) -> list[str]:
        """Read /v1/models. A frontend lists a model when it has all the workers for it."""
        return openai.read_models(document)

    def counters(self, metrics: str) -> Counters:
        """Read /metrics of a frontend or a worker. Neither counts what KV cache has moved."""
        requests: float | None = None
        block_size = None
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                if sample.name == _BLOCK_SIZE:
                    block_size = round(sample.value)
                served = sample.labels.get("dynamo_endpoint") == _SERVING
                if sample.name == _FRONTEND_REQUESTS or (sample.name == _WORKER_REQUESTS and served):
                    requests = (requests or 0.0) + sample.value
        try:
            return Counters(
                None, None, None, None, page_size=block_size, requests=None if requests is None else round(requests)
            )
        except OverflowError as error:
            raise ValueError("/metrics holds an infinite counter") from error
