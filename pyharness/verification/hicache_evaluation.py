"""Evaluate a model twice: as its questions come, and out of Mooncake Store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pyharness import redaction
from pyharness.verification import evaluation, hicache, storage
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.verification.base import Trial
    from pyharness.verification.evaluation import Question, Reply


def evaluation_agrees(trial: Trial) -> Evidence:
    """Evaluate, flush, evaluate again out of the storage, and compare the scores."""
    workload, asked = trial.workload, evaluation.questions(trial.workload)
    hicache.flush(trial)
    before = storage.pages(trial)
    first = evaluation.ask_all(trial, asked)
    _wait(trial, asked, first, before)
    hicache.flush(trial)
    second = evaluation.ask_all(trial, asked)
    _keep(trial, asked, first, second)
    scores = [evaluation.score(asked, replies, first) for replies in (first, second)]
    stored = sum(reply.cached.storage for reply in second)
    other = [q.name for q, one, two in zip(asked, first, second, strict=True) if one.text != two.text]
    evidence: Evidence = {
        "set": workload["evaluation"],
        "questions": len(asked),
        "scores": [round(value, 4) for value in scores],
        "tokens_from_storage": stored,
        "other_texts": other[:20],
    }
    _out_of_storage(asked, first, second, evidence)
    least = float(workload["evaluation_min_score"].get(trial.deployment.served.name, 0))
    most = float(workload["evaluation_max_difference"])
    if min(scores) <= least or abs(scores[0] - scores[1]) > most:
        raise CheckFailed(
            f"{scores[0]:.3f} of {len(asked)} questions were answered right at first and {scores[1]:.3f} out of the "
            f"storage; each has to be above {least:g} and the difference at most {most:g}. Other texts: "
            f"{', '.join(other[:5]) or 'none'}",
            evidence,
            hint="each question with both texts is in evaluation.jsonl beside the server's log",
        )
    return evidence


def _wait(trial: Trial, asked: list[Question], first: list[Reply], before: dict[str, set[str]]) -> None:
    """Wait until the storage has what was asked; of questions that begin alike, and share pages, the server tells."""
    if any(question.expected is not None for question in asked):
        hicache.wait_until_written(trial)
        return
    size = int(trial.workload["page_size"])
    storage.wait_for_pages(trial, before, sum(reply.prompt_tokens // size for reply in first), hicache.ranks(trial))


def _out_of_storage(
    asked: list[Question],
    first: list[Reply],
    second: list[Reply],
    evidence: Evidence,
) -> None:
    """Check that the second pass was served from the storage, and that a first pass that says what is right was not."""
    # Questions without a known answer share no beginning, so each stands for itself.
    alone = [n for n, question in enumerate(asked) if question.expected is None]
    helped = [asked[n].name for n in alone if first[n].cached.total]
    empty = [asked[n].name for n in alone if not second[n].cached.storage]
    if helped:
        raise CheckFailed(
            f"{len(helped)} questions found tokens in a cache at first ({helped[0]}), so their answers say nothing",
            evidence,
            hint="the store holds what this run did not write, or prompts begin alike",
            class_="test",
        )
    if empty or not evidence["tokens_from_storage"]:
        raise CheckFailed(
            f"{len(empty) or len(asked)} of {len(asked)} questions found nothing in the storage the second time "
            f"({(empty or [asked[0].name])[0]})",
            evidence,
            hint="see the master's log for evictions: is segment_bytes large enough for all questions?",
        )


def _keep(trial: Trial, asked: list[Question], first: list[Reply], second: list[Reply]) -> None:
    """Write each question with both texts into the trial's logs."""
    lines = [
        json.dumps(
            {
                "question": question.name,
                "expected": question.expected,
                "prompt_tokens": one.prompt_tokens,
                "texts": [one.text, two.text],
                "cached": [vars(one.cached), vars(two.cached)],
            }
        )
        for question, one, two in zip(asked, first, second, strict=True)
    ]
    trial.logs.mkdir(parents=True, exist_ok=True)
    (trial.logs / "evaluation.jsonl").write_text(redaction.redact("\n".join(lines) + "\n"), encoding="utf-8")
