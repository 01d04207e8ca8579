"""SGLang 0.5: its /generate, its metrics. Names read in sglang 0.5.23, srt/observability/metrics_collector.py."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pyharness.engines import openai
from pyharness.engines.base import Answer, Counters

_MIB = 1024 * 1024
_TRANSFERRED = "sglang:kv_transfer_total_mb"
_FAILED = "sglang:num_transfer_failed_reqs_total"
_COMPUTED = "sglang:prefill_effective_tokens_total"
_REQUESTS = "sglang:num_requests_total"
_PAGE_SIZE = "sglang:page_size"
_NO_PAGE = 1_000_000


class SGLang:
    """The engine."""

    metrics_path = "/metrics"
    models_path = "/v1/models"

    def one_token(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request for one token, of a prompt that shares no prefix with the request under test."""
        if "messages" in body:
            return {**body, "messages": [{"role": "user", "content": "Ready?"}], "max_tokens": 1}
        return {
            **body,
            "text": "Ready?",
            "sampling_params": {**body.get("sampling_params", {}), "max_new_tokens": 1},
        }

    def answer(self, document: Any) -> Answer:
        """Read the answer of /generate, or of /v1/chat/completions."""
        if not isinstance(document, dict):
            raise ValueError(f"the answer is no JSON object but {str(document)[:200]}")
        if "error" in document:
            raise ValueError(f"the answer holds an error object: {str(document['error'])[:400]}")
        if "choices" in document:
            return _chat_answer(document)
        text, meta = document.get("text"), document.get("meta_info")
        if not isinstance(text, str):
            raise ValueError(f"the answer has no text: {str(document)[:400]}")
        tokens = meta.get("prompt_tokens") if isinstance(meta, dict) else None
        return Answer(text=text, prompt_tokens=tokens if isinstance(tokens, int) else None)

    def served_models(self, document: Any) -> list[str]:
        """Read /v1/models."""
        return openai.read_models(document)

    def counters(self, metrics: str) -> Counters:
        """Read /metrics, summed over all ranks. A sum that no sample stands for is 0 once there are samples at all."""
        totals: dict[str, float] = {}
        seen = False
        page_size = None
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                seen = seen or sample.name.startswith("sglang:")
                if sample.name == _PAGE_SIZE and 1 <= sample.value < _NO_PAGE:
                    page_size = round(sample.value)
                # Tokens found in a cache are no computation: mode says which is which.
                if sample.name == _COMPUTED and sample.labels.get("mode") != "input":
                    continue
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        if not seen:
            return Counters(None, None, None, None)
        try:
            return Counters(
                transferred_bytes=round(totals.get(f"{_TRANSFERRED}_sum", 0.0) * _MIB),
                transfers=round(totals.get(f"{_TRANSFERRED}_count", 0.0)),
                failed_transfers=round(totals.get(_FAILED, 0.0)),
                computed_tokens=round(totals.get(_COMPUTED, 0.0)),
                page_size=page_size,
                requests=round(totals.get(_REQUESTS, 0.0)),
            )
        except OverflowError as error:
            raise ValueError("/metrics holds an infinite counter") from error


def _chat_answer(document: dict[str, Any]) -> Answer:
    """Read an answer in OpenAI's form of a chat completion."""
    try:
        text = document["choices"][0]["message"]["content"]
    except (TypeError, LookupError) as error:
        raise ValueError(f"the answer has no message: {str(document)[:400]}") from error
    if not isinstance(text, str):
        raise ValueError(f"the answer has no text: {str(document)[:400]}")
    usage = document.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Answer(text=text, prompt_tokens=tokens if isinstance(tokens, int) else None)
