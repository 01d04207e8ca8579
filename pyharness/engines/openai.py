"""What engines with OpenAI's API answer alike (https://platform.openai.com/docs/api-reference)."""

from __future__ import annotations

from typing import Any

from pyharness.engines.base import Answer


def read_answer(document: Any) -> Answer:
    """Read the answer of /v1/chat/completions or /v1/completions.

    Raises:
        ValueError: it is an error object, or has no text.
    """
    if not isinstance(document, dict):
        raise ValueError(f"the answer is no JSON object but {str(document)[:200]}")
    if document.get("error"):
        raise ValueError(f"the answer holds an error object: {str(document['error'])[:400]}")
    try:
        choice = document["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ValueError(f"the answer has no text: {str(document)[:400]}")
    usage = document.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Answer(text=text, prompt_tokens=tokens if isinstance(tokens, int) else None)


def read_models(document: Any) -> list[str]:
    """Read the names in the answer of /v1/models.

    Raises:
        ValueError: it has none.
    """
    try:
        return [str(entry["id"]) for entry in document["data"]]
    except (TypeError, KeyError) as error:
        raise ValueError(f"/v1/models gave {str(document)[:200]}") from error
