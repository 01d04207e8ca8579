"""MMLU: questions of many fields with four answers to choose from (Hendrycks et al., arXiv:2009.03300).

The file is the one of openai/simple-evals: CSV with the columns Question, A, B, C, D and Answer (one of A to D). The
model is asked through the chat API, may think aloud, and has to end with `Answer: LETTER`. The score is the part that
is answered right: one who guesses has 0.25.
"""

from __future__ import annotations

import csv
import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import exercise, redaction
from pyharness.verification import blame
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

LETTERS = "ABCD"
_PATH = "/v1/chat/completions"
_ANSWER_SECONDS = 300.0
_CHOSEN = re.compile(r"answer\s*:?\s*\**\s*\(?([A-D])\b", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        number: its line in the file, from 0.
        text: what is asked.
        choices: the four answers.
        answer: the letter of the right one.
    """

    number: int
    text: str
    choices: tuple[str, ...]
    answer: str

    @property
    def prompt(self) -> str:
        """What the model is told."""
        shown = "\n".join(f"{letter}) {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True))
        return (
            f"Choose the right answer to this question. Think first if you need to, and end with a line "
            f"'Answer: LETTER', where LETTER is one of A, B, C and D.\n\n{self.text}\n\n{shown}"
        )


def read(path: Path) -> list[Question]:
    """Read the questions of a file.

    Raises:
        CheckFailed: it is not there, or is another.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        found = [
            Question(number, row["Question"], tuple(row[letter] for letter in LETTERS), row["Answer"].strip())
            for number, row in enumerate(rows)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise _no_questions(path, f"{type(error).__name__}: {error}") from error
    if not found:
        raise _no_questions(path, "it has no question")
    nameless = [question.number for question in found if len(question.answer) != 1 or question.answer not in LETTERS]
    if nameless:
        raise _no_questions(path, f"question {nameless[0]} has no letter for its answer")
    return found


def _no_questions(path: Path, reason: str) -> CheckFailed:
    return CheckFailed(
        f"there is no MMLU in {path}: {reason}",
        {"file": str(path)},
        hint="put simple-evals' mmlu.csv there (github.com/openai/simple-evals names its address), or name another "
        "file in disagg_workloads",
        class_="configuration",
    )


def drawn(known: list[Question], count: int, seed: str) -> list[Question]:
    """Return so many of the questions, the same for the same seed."""
    return random.Random(seed).sample(known, min(count, len(known)))  # noqa: S311 (no secret)


def chosen(text: str) -> str | None:
    """Return the letter that an answer ends with; None if it names none."""
    found = _CHOSEN.findall(text)
    return found[-1].upper() if found else None


def said(exchange: Exchange) -> str:
    """Return the text of a chat answer.

    Raises:
        CheckFailed: there is none.
    """
    try:
        return str(exchange.json()["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        body = (exchange.body or "")[:300]
        raise CheckFailed(
            f"{exchange.url}: {exchange.problem or f'HTTP {exchange.status}: {body}'}",
            {"exchange": exchange.transcript()[:2000]},
            hint="the server's own words are in its log",
        ) from error


def mmlu_score(trial: Trial) -> Evidence:
    """Check that the model answers more than the workload's part of the questions right.

    The workload's figures are mmlu_file, mmlu_questions, mmlu_score, mmlu_new_tokens, mmlu_workers and seed.
    """
    workload = trial.workload
    known = read(Path(str(workload["mmlu_file"])).expanduser())
    asked = drawn(known, int(workload["mmlu_questions"]), str(workload["seed"]))
    url = trial.deployment.entry + _PATH

    def one(question: Question) -> str:
        body: dict[str, Any] = {
            "model": trial.deployment.served.name,
            "messages": [{"role": "user", "content": question.prompt}],
            "temperature": 0,
            "max_tokens": int(workload["mmlu_new_tokens"]),
        }
        done = exercise.post(url, body, _ANSWER_SECONDS)
        blame.failed_request(trial, done)
        return said(done)

    with ThreadPoolExecutor(int(workload["mmlu_workers"])) as workers:
        texts = list(workers.map(one, asked))
    letters = [chosen(text) for text in texts]
    _keep(trial, asked, texts)
    right = sum(letter == question.answer for question, letter in zip(asked, letters, strict=True))
    score, least = right / len(asked), float(workload["mmlu_score"])
    evidence: Evidence = {
        "questions": len(asked),
        "right": right,
        "without_a_letter": letters.count(None),
        "score": round(score, 4),
        "has_to_be_above": least,
    }
    if score <= least:
        raise CheckFailed(
            f"{right} of {len(asked)} questions were answered right, a part of {score:.3f}; it has to be above "
            f"{least:g}",
            evidence,
            hint="each question with its answer is in mmlu.jsonl beside the server's log",
        )
    return evidence


def _keep(trial: Trial, asked: list[Question], texts: list[str]) -> None:
    """Write each question with its answer into the trial's logs."""
    lines = [
        json.dumps({"line": question.number, "right": question.answer, "chosen": chosen(text), "text": text})
        for question, text in zip(asked, texts, strict=True)
    ]
    trial.logs.mkdir(parents=True, exist_ok=True)
    (trial.logs / "mmlu.jsonl").write_text(redaction.redact("\n".join(lines) + "\n"), encoding="utf-8")
