"""MMLU: reading the questions, what counts as an answer, and the score. The questions are made on the spot."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from pyharness import exercise
from pyharness.exercise import Exchange
from pyharness.verification import mmlu
from pyharness.verification.base import CheckFailed
from tests.unit.builders import FakeNodes, make_deployment, make_trial

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

COLUMNS = ["", "Question", "A", "B", "C", "D", "Answer", "Subject"]


def write(path: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


def sums(count: int) -> list[list[str]]:
    """Return sums to choose the right number of; the right letter goes round."""
    rows = []
    for number in range(count):
        place = number % 4
        choices = [str(2 * number + step - place) for step in range(4)]
        rows.append([str(number), f"How much is\n{number} + {number}?", *choices, mmlu.LETTERS[place], "sums"])
    return rows


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write(tmp_path / "mmlu.csv", sums(12))


def make(questions: Path, tmp_path: Path, **figures: Any) -> Trial:
    case = cases.load("test_moe_mooncake")
    workload = {**case.workload, "mmlu_file": str(questions), "mmlu_questions": 8, "mmlu_workers": 4, **figures}
    return make_trial(FakeNodes({}), make_deployment(workload=workload), case=case, logs=tmp_path / "logs")


def answering(monkeypatch: pytest.MonkeyPatch, right: int) -> list[dict[str, Any]]:
    """Have a model do the sums; after so many right answers it is wrong."""
    asked: list[dict[str, Any]] = []

    def post(url: str, body: dict[str, Any], _timeout: float) -> Exchange:
        assert url == "http://127.0.0.41:8000/v1/chat/completions"
        asked.append(body)
        lines = body["messages"][0]["content"].splitlines()
        wanted = 2 * int(next(line for line in lines if line.endswith("?")).split()[0])
        letter = next(line[0] for line in lines if line[1:] == f") {wanted}")
        if len(asked) > right:
            letter = mmlu.LETTERS[mmlu.LETTERS.index(letter) - 1]
        content = f"Let me see.\n\nAnswer: {letter}"
        return Exchange(
            "POST", url, body, 200, {}, json.dumps({"choices": [{"message": {"content": content}}]}), None, 1
        )

    monkeypatch.setattr(exercise, "post", post)
    return asked


def test_a_model_that_knows(monkeypatch: pytest.MonkeyPatch, questions: Path, tmp_path: Path) -> None:
    asked = answering(monkeypatch, right=5)
    evidence = mmlu.mmlu_score(make(questions, tmp_path))
    assert (evidence["questions"], evidence["right"], evidence["score"]) == (8, 5, 0.625)
    assert {(body["temperature"], body["max_tokens"], body["model"]) for body in asked} == {(0, 2048, "org/model")}
    kept = [json.loads(line) for line in (tmp_path / "logs" / "mmlu.jsonl").read_text().splitlines()]
    assert sum(entry["right"] == entry["chosen"] for entry in kept) == 5


def test_half_of_the_questions_is_not_above_half(
    monkeypatch: pytest.MonkeyPatch, questions: Path, tmp_path: Path
) -> None:
    answering(monkeypatch, right=4)
    with pytest.raises(CheckFailed, match=r"4 of 8 questions were answered right, .* has to be above 0.5") as caught:
        mmlu.mmlu_score(make(questions, tmp_path))
    assert caught.value.class_ == "product"


def test_a_server_that_refuses_is_no_wrong_answer(
    monkeypatch: pytest.MonkeyPatch, questions: Path, tmp_path: Path
) -> None:
    def post(url: str, body: dict[str, Any], _timeout: float) -> Exchange:
        return Exchange("POST", url, body, 200, {}, '{"error": "no such model"}', None, 1)

    monkeypatch.setattr(exercise, "post", post)
    with pytest.raises(CheckFailed, match="no such model"):
        mmlu.mmlu_score(make(questions, tmp_path))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: B", "B"),
        ("answer:c", "C"),
        ("**Answer: (D)**", "D"),
        ("Answer: **A**", "A"),
        ("The answer is B", None),
        ("Answer: A\nNo, wait.\nAnswer: D", "D"),
        ("Answer: Because", None),
        ("Answer: E", None),
        ("B", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(text: str, letter: str | None) -> None:
    assert mmlu.chosen(text) == letter


def test_the_same_seed_draws_the_same_questions(questions: Path) -> None:
    known = mmlu.read(questions)
    first, again, other = (mmlu.drawn(known, 5, seed) for seed in ("36", "36", "37"))
    assert first == again != other
    assert len(mmlu.drawn(known, 100, "36")) == 12


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([], COLUMNS, "it has no question"),
        ([["0", "q", "1", "2", "3", "4", "E", "x"]], COLUMNS, "question 0 has no letter"),
        ([["0", "q", "1", "2", "3", "4", "AB", "x"]], COLUMNS, "question 0 has no letter"),
        ([["0", "q"]], ["", "Frage"], "KeyError"),
        ([["0", "q", "1"]], COLUMNS, "AttributeError"),
    ],
)
def test_another_file_is_told_in_one_line(
    tmp_path: Path, rows: list[list[str]], columns: list[str], words: str
) -> None:
    with pytest.raises(CheckFailed, match=words) as caught:
        mmlu.read(write(tmp_path / "mmlu.csv", rows, columns))
    assert caught.value.class_ == "configuration"
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"there is no MMLU in .*FileNotFoundError"):
        mmlu.read(tmp_path / "mmlu.csv")
