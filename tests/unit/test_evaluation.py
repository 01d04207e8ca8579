"""The questions of an evaluation: the same for the same seed, and judged by what is known to be right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.engines.sglang_cache import CachedTokens
from pyharness.verification import evaluation, storage
from pyharness.verification.base import CheckFailed
from pyharness.verification.evaluation import Question, Reply
from tests.unit.hicache_double import Double, on_trial

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def reply(text: str) -> Reply:
    return Reply(text, 10, CachedTokens(0, 0, 0, None))


def workload(folder: Path, **changes: Any) -> dict[str, Any]:
    lines = [{"question": f"How many are {n}?", "answer": f"They are\n#### 1,00{n}"} for n in range(9)]
    (folder / "test.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    named = {"evaluation": "gsm8k", "evaluation_file": str(folder / "test.jsonl"), "seed": 1}
    return {**named, "evaluation_questions": 3, "evaluation_examples": 2, "evaluation_words": 5, **changes}


def test_gsm8k_is_asked_after_its_examples(tmp_path: Path) -> None:
    asked = evaluation.questions(workload(tmp_path))

    assert len(asked) == 3
    examples = "Question: How many are 0?\nAnswer: They are\n#### 1,000\n\n"
    assert all(question.prompt.startswith(examples) for question in asked)
    assert all(question.prompt.endswith("?\nAnswer:") for question in asked)
    assert {question.expected for question in asked} <= {f"100{n}" for n in range(2, 9)}


def test_the_seed_says_which(tmp_path: Path) -> None:
    first, same, other = (evaluation.questions(workload(tmp_path, seed=seed)) for seed in (1, 1, 3))

    assert first == same != other


def test_no_more_questions_than_there_are(tmp_path: Path) -> None:
    assert len(evaluation.questions(workload(tmp_path, evaluation_questions=200))) == 7


def test_seeded_questions_begin_differently(tmp_path: Path) -> None:
    asked = evaluation.questions(workload(tmp_path, evaluation="seeded", evaluation_questions=20))

    assert len({question.prompt for question in asked}) == 20
    assert all(len(question.prompt.split()) == 5 and question.expected is None for question in asked)


@pytest.mark.parametrize("line", ["no JSON", '{"question": "x"}', "[1]"])
def test_a_file_that_is_not_gsm8k(tmp_path: Path, line: str) -> None:
    values = workload(tmp_path)
    (tmp_path / "test.jsonl").write_text(line)
    with pytest.raises(CheckFailed, match="there is no GSM8K in") as caught:
        evaluation.questions(values)
    assert caught.value.class_ == "configuration"


@pytest.mark.parametrize("changes", [{"evaluation": "mmlu"}, {"evaluation": "seeded", "evaluation_questions": 0}])
def test_a_set_that_is_not_there(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed, match="there are no questions"):
        evaluation.questions(workload(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "number"),
    [("so 1,234 apples", "1234"), ("3 + 4 = 7.", "7"), ("$-2.50", "-2.5"), ("4.00", "4"), ("none", None)],
)
def test_the_last_number_counts(text: str, number: str | None) -> None:
    assert evaluation.number_in(text) == number


def test_the_score_is_the_part_that_is_right() -> None:
    known = [Question("a", "?", "7"), Question("b", "?", "8")]
    unknown = [Question("c", "?", None), Question("d", "?", None)]
    replies, right = [reply("it is 7"), reply("it is 9")], [reply("it is 7"), reply("it is 8")]

    assert evaluation.score(known, replies, right) == 0.5
    assert evaluation.score(unknown, replies, right) == 0.5
    assert evaluation.score(unknown, right, right) == 1.0


def test_a_master_that_has_renamed_its_counters(tmp_path: Path) -> None:
    with on_trial(Double(), tmp_path) as trial:
        assert storage.counters(trial).written == 1
        with pytest.raises(CheckFailed, match="does not have the counters") as caught:
            storage.counters(_without_metrics(trial))
    assert caught.value.class_ == "test"


def _without_metrics(trial: Any) -> Any:
    """Return the same with the server's door in place of the master's: it answers /metrics, with other names."""
    master = trial.deployment.of_kind("master")[0].model_copy(update={"url": trial.deployment.entry})
    services = [master, *trial.deployment.of_kind("single")]
    changed = trial.deployment.model_copy(update={"services": services})
    return type(trial)(**{**vars(trial), "deployment": changed})


def test_a_master_that_does_not_answer(tmp_path: Path) -> None:
    with on_trial(Double(), tmp_path) as trial:
        pass
    with pytest.raises(CheckFailed, match=r"the master does not answer .*connection refused"):
        storage.pages(trial)
