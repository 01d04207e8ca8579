"""A host has stand-in models, made once, and the role knows what lies in caches of hubs."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

CACHE = "/var/cache/disagg-e2e/models"


@pytest.fixture
def published(host: Any) -> dict[str, dict[str, Any]]:
    """Return what the role has published."""
    found: dict[str, dict[str, Any]] = json.loads(host.file("/srv/results.json").content_string)
    return found


@pytest.fixture
def results(published: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the models."""
    return published["models"]


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("Qwen/Qwen3-8B", "Qwen3ForCausalLM"), ("deepseek-ai/DeepSeek-V2-Lite", "DeepseekV2ForCausalLM")],
)
def test_a_stand_in_has_the_declared_architecture(
    host: Any, results: dict[str, dict[str, Any]], name: str, architecture: str
) -> None:
    result = results[name]
    on_disk = json.loads(host.file(f"{result['path']}/config.json").content_string)
    assert result["config"] == on_disk
    assert on_disk["architectures"] == [architecture]
    assert result["path"].startswith(f"{CACHE}/")
    assert result["cached"] is True


def test_each_stand_in_has_an_answer_of_its_own(published: dict[str, dict[str, Any]]) -> None:
    first, second = published["references"].values()
    assert first["text"]
    assert second["text"]
    assert first["text"] != second["text"]
    assert first["prompt_tokens"] == second["prompt_tokens"] > 0


def test_each_stand_in_was_made_once(host: Any) -> None:
    assert len(host.check_output(f"ls -d {CACHE}/simulator-*").split()) == 2
    assert host.run(f"ls -d {CACHE}/.*.building").rc != 0


def test_a_model_that_is_whole_in_a_hubs_cache(results: dict[str, dict[str, Any]]) -> None:
    assert results["org/whole"] == {
        "path": "org/whole",
        "revision": "c0ffee",
        "config": {"num_hidden_layers": 36},
        "stand_in": None,
        "cached": True,
    }


def test_a_model_without_one_of_its_shards_is_not_whole(results: dict[str, dict[str, Any]]) -> None:
    assert results["org/half"]["cached"] is False
    assert results["org/half"]["revision"] == "decade"
    assert results["org/half"]["config"] == {"num_hidden_layers": 27}


def test_a_model_in_the_cache_of_the_other_hub(results: dict[str, dict[str, Any]]) -> None:
    assert results["org/Model-1.5"]["cached"] is True
    assert results["org/Model-1.5"]["config"] == {"num_hidden_layers": 24}


def test_a_model_that_is_not_there_keeps_the_revision_that_was_asked_for(results: dict[str, dict[str, Any]]) -> None:
    assert results["org/absent"] == {
        "path": "org/absent",
        "revision": "v2",
        "config": None,
        "stand_in": None,
        "cached": False,
    }


def test_a_model_that_could_not_be_made_is_none(host: Any) -> None:
    assert host.run("ls -d /var/cache/refused/models/simulator-*").rc != 0
