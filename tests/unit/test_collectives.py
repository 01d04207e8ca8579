"""Collective operations of ranks: what has to come out is known without them, and whatever else they say is found."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from pyharness import faults
from pyharness.exercise import Exchange
from pyharness.verification import collectives, process_group
from pyharness.verification.base import CheckFailed, Recorder
from pyharness.verification.collectives import Operation
from tests.unit.builders import FakeNodes, make_deployment, make_service, make_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.faults import Kill
    from pyharness.results import Failure
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.mooncake]

WRITTEN = {"int8": "<b", "uint8": "<B", "int32": "<i", "int64": "<q", "float32": "<f", "float64": "<d", "float16": "<e"}
CASE = cases.load("test_moe_mooncake")
FIGURES = {**CASE.workload, "sizes": [1, 7], "large": 9, "notice_seconds": 5}


def gives(seed: str, rank: int, elements: int) -> list[int]:
    return [value & 31 for value in hashlib.shake_128(f"{seed}/{rank}".encode()).digest(elements)]


class Group:
    """Ranks in place of the agents, with an implementation of their own.

    Attributes:
        lost: the rank that is gone.
        change: what becomes of an answer before it is sent, by rank; all as it is where nothing is said.
    """

    def __init__(self, ranks: int = 3) -> None:
        self.ranks = ranks
        self.lost: int | None = None
        self.noticed: set[int] = set()
        self.change: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

    @property
    def active(self) -> list[int]:
        return [rank for rank in range(self.ranks) if rank != self.lost]

    def blocks(self, rank: int, asked: dict[str, Any]) -> list[list[int]]:
        seed, elements = asked["seed"], asked["elements"]

        def total(name: str) -> list[int]:
            return [sum(column) for column in zip(*(gives(name, r, elements) for r in self.active), strict=True)]

        if asked["operation"] == "all_reduce":
            return [total(seed)]
        if asked["operation"] == "reduce_scatter":
            return [total(f"{seed}/{rank}")]
        if asked["operation"] == "broadcast":
            return [gives(seed, asked["root"], elements)]
        name = seed if asked["operation"] == "all_gather" else f"{seed}/{rank}"
        return [gives(name, r, elements) if r in self.active else [77] * elements for r in range(self.ranks)]

    def answer(self, rank: int, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
        if verb == "describe":
            taking_part = [r in self.active for r in range(self.ranks)]
            told = {"rank": rank, "backend": "mooncake-cpu", "world_size": self.ranks, "active_ranks": taking_part}
            return self.change.get(rank, dict)(told)
        if asked["dtype"] == "bfloat16":
            return self.change.get(rank, dict)({"refused": "reduction datatype is not supported", "seconds": 0.1})
        found = self.lost is not None and rank not in self.noticed
        told = {
            "blocks": [self.summary(numbers, asked["dtype"]) for numbers in self.blocks(rank, asked)],
            "seconds": 0.01,
            "local_success": not found,
            "failed_ranks": [self.lost] if found else [],
            "active_ranks": [r in self.active for r in range(self.ranks)],
        }
        return self.change.get(rank, dict)(told)

    @staticmethod
    def summary(numbers: list[int], dtype: str) -> dict[str, Any]:
        raw = b"".join(struct.pack(WRITTEN[dtype], number) for number in numbers)
        return {
            "sha256": hashlib.sha256(raw).hexdigest(),
            "first": [float(n) for n in numbers[:8]],
            "total": float(sum(numbers)),
        }

    def send(self, url: str, body: dict[str, Any], _timeout: float) -> Exchange:
        rank, verb = int(url.rpartition("/")[0][-5:]) - 30011, url.rpartition("/")[2]
        answer = self.answer(rank, verb, body)
        if self.lost is not None:
            self.noticed.add(rank)
        return Exchange("POST", url, body, 200, {}, json.dumps(answer), None, 0.01)


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def trial(group: Group, monkeypatch: pytest.MonkeyPatch) -> Trial:
    services = []
    for rank in range(3):
        named = {"kind": "rank", "name": f"rank{rank}", "url": f"http://127.0.0.41:{30011 + rank}"}
        services.append({**make_service("prefill", port=30011 + rank).model_dump(), **named})
    deployment = make_deployment(model=None, services=services, workload=FIGURES, nodes=["one"])

    def kill(_trial: Trial, fault: Kill) -> dict[str, Any]:
        group.lost = int(fault.service.name.removeprefix("rank"))
        return {"service": fault.service.name}

    monkeypatch.setattr(faults, "for_good", kill)
    failures: list[Failure] = []
    recorder = Recorder("[process_group]", failures)
    seen = {"one": {"services": {s["name"]: {"connections": None} for s in services}, "rdma": []}}
    return make_trial(
        FakeNodes(seen), deployment, case=CASE, send=group.send, recorder=recorder, logs=Path("/nonexistent")
    )


def failed(trial: Trial) -> dict[str, str]:
    """Return the failures by their checks, but that of the transport: here no kernel counts."""
    return {f.check: f.evidence for f in trial.recorder.failures if f.check != "transport_used"}


def run(trial: Trial) -> dict[str, str]:
    process_group.exercise(trial, "rank1")
    return failed(trial)


def test_a_group_that_is_right_passes_every_check(trial: Trial) -> None:
    assert run(trial) == {}
    done = [check.id for check in trial.recorder.checks]
    assert done == list(process_group.CHECKS[2:])
    half = next(check for check in trial.recorder.checks if check.id == "half_sums_right")
    assert half.evidence == {"float16": "right", "bfloat16": {"refused": "reduction datatype is not supported"}}


@pytest.mark.parametrize("name", collectives.OPERATIONS)
@pytest.mark.parametrize("dtype", collectives.LETTERS)
def test_what_has_to_come_out_is_what_ranks_of_another_implementation_get(group: Group, name: str, dtype: str) -> None:
    operation = Operation(name, dtype, 5, "seed", root=1)
    asked = {"operation": name, "dtype": dtype, "elements": 5, "seed": "seed", "root": 1}
    answers = {rank: group.answer(rank, "collective", asked) for rank in range(3)}
    collectives.right(operation, answers, [0, 1, 2])


@pytest.mark.parametrize("name", collectives.OPERATIONS)
def test_one_wrong_number_on_one_rank_is_found(trial: Trial, group: Group, name: str) -> None:
    def wrong(told: dict[str, Any]) -> dict[str, Any]:
        return {**told, "blocks": [{**told["blocks"][0], "sha256": "0" * 64}, *told["blocks"][1:]]}

    group.change[2] = wrong
    with pytest.raises(CheckFailed, match="rank 2 got other numbers than the ranks"):
        collectives.all_right(
            trial, process_group.ranks_of(trial), [Operation(name, "int32", 4, "s")], timeout=1, done=[]
        )


def test_what_stands_in_the_place_of_a_lost_rank_means_nothing(group: Group) -> None:
    group.lost = 1
    asked = {"operation": "all_to_all", "dtype": "int8", "elements": 5, "seed": "seed", "root": 0}
    answers = {rank: group.answer(rank, "collective", asked) for rank in (0, 2)}
    collectives.right(Operation("all_to_all", "int8", 5, "seed"), answers, [0, 2])


def test_a_sum_with_a_lost_rank_in_it_is_wrong_afterwards(group: Group) -> None:
    asked = {"operation": "all_reduce", "dtype": "int8", "elements": 5, "seed": "seed", "root": 0}
    answers = {rank: group.answer(rank, "collective", asked) for rank in (0, 2)}
    with pytest.raises(CheckFailed, match=r"than the ranks \[0, 2\] gave"):
        collectives.right(Operation("all_reduce", "int8", 5, "seed"), answers, [0, 2])


def test_an_operation_that_is_refused_is_not_right(trial: Trial) -> None:
    ranks = process_group.ranks_of(trial)
    with pytest.raises(CheckFailed, match="rank 0 refuses it: reduction datatype is not supported"):
        collectives.right(
            Operation("all_reduce", "bfloat16", 4, "s"),
            collectives.take_part(trial, ranks, Operation("all_reduce", "bfloat16", 4, "s"), 1),
            [0, 1, 2],
        )


def test_half_precision_that_is_wrong_is_found(trial: Trial, group: Group) -> None:
    def wrong(told: dict[str, Any]) -> dict[str, Any]:
        if "blocks" not in told:
            return told
        return {**told, "blocks": [{**block, "total": block["total"] + 1} for block in told["blocks"]]}

    group.change[1] = wrong
    with pytest.raises(CheckFailed, match="all_reduce of 1000 float16: rank 1 got other numbers"):
        process_group.half_sums_right(trial, process_group.ranks_of(trial))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": "gloo"}, "backend is 'gloo' instead of 'mooncake-cpu'"),
        ({"world_size": 2}, "world_size is 2 instead of 3"),
        ({"active_ranks": [True, False, True]}, "active_ranks is"),
        ({"rank": 0}, "rank is 0 instead of 1"),
    ],
)
def test_a_rank_of_another_group(trial: Trial, group: Group, change: dict[str, Any], words: str) -> None:
    group.change[1] = lambda told: {**told, **change}
    assert words in run(trial)["group_complete"]
    assert trial.recorder.checks[-1].status == "skipped"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"local_success": True, "failed_ranks": []}, "does not name it among those that failed"),
        ({"failed_ranks": [0]}, "does not name it among those that failed"),
        ({"active_ranks": [True, True, True]}, "still counts it among those that take part"),
        ({"refused": "timeout"}, "did not go on: timeout"),
    ],
)
def test_a_survivor_that_does_not_know_of_the_loss(
    trial: Trial, group: Group, change: dict[str, Any], words: str
) -> None:
    group.change[2] = lambda told: {**told, **change} if group.lost is not None else told
    found = run(trial)
    assert list(found) == ["loss_noticed"]
    assert words in found["loss_noticed"]


def test_a_loss_that_is_noticed_too_late(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.chain([0.0], itertools.repeat(6.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    with pytest.raises(CheckFailed, match=r"took 6.0 s to notice that rank 1 is gone; 5 s are allowed"):
        process_group.loss_noticed(trial, process_group.ranks_of(trial), 1)


def test_survivors_that_still_wait_for_the_lost_one(trial: Trial, group: Group) -> None:
    group.change[0] = lambda told: {**told, "seconds": 30.0} if 0 in group.noticed else told
    found = run(trial)
    assert list(found) == ["survivors_go_on"]
    assert "took 30.0 s among the ranks [0, 2]" in found["survivors_go_on"]


def test_an_operation_that_loses_a_rank_is_a_failure_although_its_numbers_are_right(trial: Trial, group: Group) -> None:
    group.change[0] = lambda told: {**told, "local_success": False, "failed_ranks": [2]} if "blocks" in told else told
    assert "rank 0 says that it did not reach the ranks [2]" in run(trial)["all_reduce_right"]


def test_content_is_the_agents_own() -> None:
    """The agent cannot be imported here: it needs torch. The function is short enough to be the same by reading."""
    assert list(collectives.content("36 loss", 2, 6)) == gives("36 loss", 2, 6)
