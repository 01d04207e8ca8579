"""Ask an engine many questions, and tell how many it answers right.

Two sets of questions:

- `gsm8k`: school mathematics with known answers (Cobbe et al., arXiv:2110.14168), a file of lines
  `{"question", "answer"}` whose answer ends in `#### NUMBER`. They are asked after some worked examples.
- `seeded`: prompts of words drawn on the spot, which begin differently, so that none is helped by another. What is
  right is what the engine answers while nothing is cached. So it works with a model that knows nothing.

The score is the part that is answered right.
"""

from __future__ import annotations

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.engines import sglang_cache
from pyharness.verification import answer, blame
from pyharness.verification.base import CheckFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.engines.sglang_cache import CachedTokens
    from pyharness.verification.base import Trial

WORDS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "juniper", "kelp", "lotus"),
    *("maple", "north", "ocean", "pebble", "quartz", "river", "stone", "tundra", "umbra", "valley", "willow", "yarrow"),
    *("harbor", "meadow", "canyon", "lantern", "bridge", "copper", "winter", "summer", "garden", "window", "zephyr"),
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        name: for the report.
        prompt: what the engine is asked to go on with.
        expected: the right number; None where the first answer says what is right.
    """

    name: str
    prompt: str
    expected: str | None


@dataclass(frozen=True)
class Reply:
    """What came of a question: the text, how long the prompt was, and where of it was what."""

    text: str
    prompt_tokens: int
    cached: CachedTokens


def prompt_of_words(seed: str, count: int) -> str:
    """Return words drawn at random, the same for the same seed."""
    drawn = random.Random(seed)  # noqa: S311 (no secret)
    return " ".join(drawn.choice(WORDS) for _ in range(count))


def seeded(workload: dict[str, Any]) -> list[Question]:
    """Make questions out of nothing (`evaluation_questions`, `evaluation_words` and `seed` of the workload)."""
    seed, words = workload["seed"], int(workload["evaluation_words"])
    numbers = range(int(workload["evaluation_questions"]))
    return [Question(f"seeded-{n}", prompt_of_words(f"{seed} {n}", words), None) for n in numbers]


def gsm8k(workload: dict[str, Any]) -> list[Question]:
    """Read GSM8K (`evaluation_file`), and draw from it by the seed.

    The first `evaluation_examples` problems of the file are the worked examples and are not asked.

    Raises:
        CheckFailed: the file is not there, or is another.
    """
    path = Path(str(workload["evaluation_file"])).expanduser()
    try:
        problems = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        known = [(str(entry["question"]), str(entry["answer"])) for entry in problems]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckFailed(
            f"there is no GSM8K in {path}: {type(error).__name__}: {error}",
            {"file": str(path)},
            hint="put the test set's test.jsonl there (github.com/openai/grade-school-math), or name another file in "
            "disagg_workloads",
            class_="configuration",
        ) from error
    examples, rest = known[: int(workload["evaluation_examples"])], known[int(workload["evaluation_examples"]) :]
    asked = min(int(workload["evaluation_questions"]), len(rest))
    chosen = random.Random(str(workload["seed"])).sample(range(len(rest)), asked)  # noqa: S311 (no secret)
    shown = "".join(f"Question: {question}\nAnswer: {solution}\n\n" for question, solution in examples)
    return [
        Question(f"gsm8k-{n}", f"{shown}Question: {rest[n][0]}\nAnswer:", number_in(rest[n][1].rpartition("####")[2]))
        for n in sorted(chosen)
    ]


def number_in(text: str) -> str | None:
    """Return the last number of a text, as it is compared; None if there is none."""
    found = _NUMBER.findall(text)
    return _plain(found[-1]) if found else None


def _plain(number: str) -> str:
    whole, _, part = number.replace(",", "").partition(".")
    return f"{whole}.{part.rstrip('0')}" if part.rstrip("0") else whole


SETS: dict[str, Callable[[dict[str, Any]], list[Question]]] = {"seeded": seeded, "gsm8k": gsm8k}


def questions(workload: dict[str, Any]) -> list[Question]:
    """Return the questions that the workload names (`evaluation`).

    Raises:
        CheckFailed: it names no known set, or there are no questions.
    """
    name = str(workload["evaluation"])
    found = SETS[name](workload) if name in SETS else []
    if not found:
        raise CheckFailed(
            f"workload.evaluation is {name!r}, and there are no questions of that name",
            {"evaluation": name},
            hint=f"evaluation is one of {', '.join(SETS)}, and evaluation_questions a positive number",
            class_="configuration",
        )
    return found


def ask_all(trial: Trial, asked: list[Question]) -> list[Reply]:
    """Ask all questions, `evaluation_workers` of the workload at a time.

    Raises:
        CheckFailed: one got no answer, or none that says what was cached.
    """
    workload = trial.workload
    parameters = {"temperature": 0, "max_new_tokens": int(workload["evaluation_new_tokens"]), "stop": ["Question:"]}
    url, limit = trial.deployment.entry + trial.case.asked.path, trial.case.asked.timeout_seconds

    def one(question: Question) -> Reply:
        done = exercise.post(url, {"text": question.prompt, "sampling_params": parameters}, limit)
        blame.failed_request(trial, done)
        read = answer.read_answer(done, trial.engine)
        return Reply(read.text, read.prompt_tokens or 0, sglang_cache.cached_tokens(done.json()))

    with ThreadPoolExecutor(int(workload["evaluation_workers"])) as workers:
        return list(workers.map(one, asked))


def score(asked: list[Question], replies: list[Reply], right: list[Reply]) -> float:
    """Return which part of the questions was answered right; where no answer is known, as in `right`."""
    good = sum(
        reply.text == first.text if question.expected is None else number_in(reply.text) == question.expected
        for question, reply, first in zip(asked, replies, right, strict=True)
    )
    return good / len(asked)
