"""Collective operations of a process group: what each rank has to get, and what it says that it got.

The ranks are agents (role process_group_rank). What they give follows from a seed, so what has to come out is known
here without torch and without having taken part. Every number is one of 0 to 31: sums of up to four ranks fit into
every type and are exact in all of them, so the comparison is byte by byte.
"""

from __future__ import annotations

import hashlib
import operator
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pyharness.verification import agents
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

OPERATIONS = ("all_reduce", "broadcast", "all_gather", "all_to_all", "reduce_scatter")
# Of torch's types those that the standard library can write, by its letter for them (module array).
LETTERS = {"int8": "b", "uint8": "B", "int32": "i", "int64": "q", "float32": "f", "float64": "d"}
_LOW_BITS = bytes(value & 31 for value in range(256))
_SHOWN = 8
_HINT = "each exchange with the ranks is in curl_response.log; Mooncake's own words are in their logs beside it"


@dataclass(frozen=True)
class Operation:
    """One collective operation.

    Attributes:
        name: one of OPERATIONS.
        dtype: torch's name for the numbers' type.
        elements: how many numbers a rank gives (to each rank, where each gets its own).
        seed: what they follow from.
        root: the rank whose numbers a broadcast brings.
    """

    name: str
    dtype: str
    elements: int
    seed: str
    root: int = 0

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.name} of {self.elements} {self.dtype}"

    @property
    def size(self) -> int:
        """Bytes of what one rank gives (to each rank, where each gets its own)."""
        return self.elements * array(LETTERS[self.dtype]).itemsize


@lru_cache(maxsize=64)
def content(seed: str, rank: int, elements: int) -> bytes:
    """Return the numbers that a rank gives, a byte each: the low five bits of SHAKE-128 (FIPS 202) of `seed/rank`."""
    return hashlib.shake_128(f"{seed}/{rank}".encode()).digest(elements).translate(_LOW_BITS)


@lru_cache(maxsize=16)
def _sum(seed: str, ranks: tuple[int, ...], elements: int) -> bytes:
    total = bytes(elements)
    for rank in ranks:
        total = bytes(map(operator.add, total, content(seed, rank, elements)))
    return total


def expected(operation: Operation, rank: int, active: Sequence[int]) -> dict[int, bytes]:
    """Return what an operation has to bring to a rank, a byte for each number.

    Args:
        operation: which.
        rank: to whom.
        active: the ranks that take part.

    Returns:
        by the place among the rank's blocks: the only one for a sum or a broadcast, else the rank that it comes from.
        Places of ranks that take no part are left out: what stands there means nothing.
    """
    seed, elements, taking_part = operation.seed, operation.elements, tuple(active)
    if operation.name == "all_reduce":
        return {0: _sum(seed, taking_part, elements)}
    if operation.name == "reduce_scatter":
        return {0: _sum(f"{seed}/{rank}", taking_part, elements)}
    if operation.name == "broadcast":
        return {0: content(seed, operation.root, elements)}
    if operation.name == "all_gather":
        return {source: content(seed, source, elements) for source in taking_part}
    return {source: content(f"{seed}/{rank}", source, elements) for source in taking_part}


@lru_cache(maxsize=32)
def _digest(numbers: bytes, dtype: str) -> str:
    return hashlib.sha256(array(LETTERS[dtype], list(numbers)).tobytes()).hexdigest()


def take_part(trial: Trial, ranks: dict[int, Service], operation: Operation, timeout: float) -> dict[int, Any]:
    """Have ranks do an operation together.

    Args:
        trial: whose ranks.
        ranks: those that take part, by their number.
        operation: what they do.
        timeout: seconds for the whole.

    Returns:
        by rank what it says came of it.

    Raises:
        CheckFailed: one gave no answer.
    """
    asked = {
        "operation": operation.name,
        "dtype": operation.dtype,
        "elements": operation.elements,
        "seed": operation.seed,
        "root": operation.root,
    }
    with ThreadPoolExecutor(len(ranks)) as pool:
        answers = pool.map(lambda agent: agents.ask(trial, agent, "collective", asked, timeout), ranks.values())
        return dict(zip(ranks, answers, strict=True))


def refusals(answers: dict[int, Any]) -> dict[int, str]:
    """Return by rank the words by which it refused an operation."""
    return {rank: answer["refused"] for rank, answer in answers.items() if "refused" in answer}


def right(operation: Operation, answers: dict[int, Any], active: Sequence[int]) -> None:
    """Check what an operation brought to each rank, number by number.

    Args:
        operation: which.
        answers: by rank what it says that it got.
        active: the ranks that took part.

    Raises:
        CheckFailed: a rank refused it, or got something else.
    """
    refused = refusals(answers)
    if refused:
        rank, words = next(iter(refused.items()))
        raise CheckFailed(f"{operation}: rank {rank} refuses it: {words}", {"refused": refused}, hint=_HINT)
    for rank, answer in answers.items():
        for place, numbers in expected(operation, rank, active).items():
            got = answer["blocks"][place]
            if not _same(operation, got, numbers):
                wanted = {"first": list(numbers[:_SHOWN]), "total": sum(numbers)}
                raise CheckFailed(
                    f"{operation}: rank {rank} got other numbers than the ranks {list(active)} gave (place {place}): "
                    f"{got['first']} with total {got['total']:g} instead of {wanted['first']} with total "
                    f"{wanted['total']}",
                    {"operation": str(operation), "rank": rank, "got": got, "expected": wanted},
                    hint=_HINT,
                )


def _same(operation: Operation, got: dict[str, Any], numbers: bytes) -> bool:
    if operation.dtype in LETTERS:
        return bool(got["sha256"] == _digest(numbers, operation.dtype))
    # Types that only torch can write: small whole numbers are exact in them, too.
    return bool(got["first"] == list(numbers[:_SHOWN]) and got["total"] == sum(numbers))


def all_right(
    trial: Trial, ranks: dict[int, Service], operations: Sequence[Operation], timeout: float, done: list[Operation]
) -> Evidence:
    """Have ranks do operations one after the other, and check each.

    Args:
        trial: whose ranks.
        ranks: those that take part, by their number.
        operations: what they do.
        timeout: seconds for each.
        done: takes what they have done, right or wrong.

    Returns:
        what was done, and how long the slowest took.

    Raises:
        CheckFailed: one was refused, went wrong, or lost a rank.
    """
    slowest = {"seconds": 0.0, "operation": ""}
    for operation in operations:
        answers = take_part(trial, ranks, operation, timeout)
        done.append(operation)
        right(operation, answers, sorted(ranks))
        unwell = {rank: answer for rank, answer in answers.items() if not answer["local_success"]}
        if unwell:
            rank, answer = next(iter(unwell.items()))
            raise CheckFailed(
                f"{operation}: rank {rank} says that it did not reach the ranks {answer['failed_ranks']}",
                {"operation": str(operation), "answers": answers},
                hint=_HINT,
            )
        seconds = max(answer["seconds"] for answer in answers.values())
        if seconds > slowest["seconds"]:
            slowest = {"seconds": round(seconds, 4), "operation": str(operation)}
    return {"ranks": sorted(ranks), "operations": [str(operation) for operation in operations], "slowest": slowest}


def of_sizes(name: str, trial: Trial) -> Iterator[Operation]:
    """Yield an operation in all types and sizes of the workload (`dtypes`, `sizes`, `large`, `seed`)."""
    workload = trial.workload
    todo = [(dtype, size) for dtype in workload["dtypes"] for size in workload["sizes"]]
    for dtype, elements in [*todo, (workload["dtypes"][0], workload["large"])]:
        yield Operation(name, str(dtype), int(elements), f"{workload['seed']} {name} {elements}")
