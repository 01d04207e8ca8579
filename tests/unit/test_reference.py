"""Reference answers: recorded ones, and one engine asked alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case, exercise, reference
from pyharness.engines.sglang import SGLang
from pyharness.errors import UsageError
from tests.unit.builders import make_deployment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = case.load("test_1p1d_erdma")
MODEL = "org/model"


def record(folder: Path, document: Any) -> None:
    path = folder / CASE.test_case / "org__model.json"
    path.parent.mkdir()
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def test_a_recorded_answer_is_read(tmp_path: Path) -> None:
    answer = {"prompt": CASE.prompt, "revision": "r1", "text": "hello"}
    record(tmp_path, answer)
    assert reference.recorded(CASE, MODEL, tmp_path) == answer


def test_a_missing_one_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"org__model\.json: there is no recorded answer for org/model; run once"):
        reference.recorded(CASE, MODEL, tmp_path)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "cannot be read as a JSON object"),
        ([1], "cannot be read as a JSON object"),
        (7, "cannot be read as a JSON object"),
        ({"prompt": "another", "text": "hello"}, "has to hold prompt"),
        ({"prompt": CASE.prompt}, "has to hold prompt"),
        ({"prompt": CASE.prompt, "text": 3}, "has to hold prompt"),
    ],
)
def test_a_wrong_one_is_refused(tmp_path: Path, document: Any, said: str) -> None:
    record(tmp_path, document)
    with pytest.raises(UsageError, match=said):
        reference.recorded(CASE, MODEL, tmp_path)


def answered(monkeypatch: pytest.MonkeyPatch, status: int | None, body: str | None) -> dict[str, Any] | None:
    def post(url: str, request: dict[str, Any], timeout: float) -> exercise.Exchange:
        assert (url, request, timeout) == ("http://127.0.0.41:8000/generate", CASE.asked.body, 30)
        return exercise.Exchange("POST", url, request, status, {}, body, None, 0.1)

    monkeypatch.setattr(exercise, "post", post)
    return reference.ask_single_engine(make_deployment(), CASE, SGLang())


def test_an_engine_alone_is_asked_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"text": "hello", "meta_info": {"prompt_tokens": 13}}'
    assert answered(monkeypatch, 200, body) == {"text": "hello", "prompt_tokens": 13}


@pytest.mark.parametrize(
    ("status", "body"),
    [(None, None), (200, "<html>"), (200, '{"error": "x"}'), (200, '{"text": " "}'), (500, '{"text": "hello"}')],
)
def test_an_engine_that_does_not_answer_gives_no_reference(
    monkeypatch: pytest.MonkeyPatch, status: int | None, body: str | None
) -> None:
    assert answered(monkeypatch, status, body) is None
