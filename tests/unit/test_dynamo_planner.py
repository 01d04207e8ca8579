"""The planner's arithmetic, by metrics of a real frontend, and what becomes of its programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import metrics, planner, planner_program
from pyharness.verification.dynamo.planner import Load, Lone
from tests.unit.builders import FakeNodes, make_deployment, make_trial
from tests.unit.dynamo_recordings import FOLDER

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

AVERAGES = {"ttft_seconds": 0.25, "itl_seconds": 0.0006, "output_tokens": 16.0}
LONE = Lone(0.08, Load(5.0, {**AVERAGES}, 1))
FRONTEND = {**make_deployment().services[1].model_dump(), "kind": "frontend", "name": "frontend"}


def load(rate: float, ttft: float = 0.25, prefill: int = 1) -> Load:
    return Load(rate, {**AVERAGES, "ttft_seconds": ttft}, prefill)


@pytest.mark.parametrize(
    ("rate", "engine", "wanted"), [(10, 12.5, 1), (20, 12.5, 2), (25, 12.5, 2), (25.1, 12.5, 3), (0, 12.5, 1)]
)
def test_replicas_are_the_rate_by_what_one_engine_does_and_at_least_one(
    rate: float, engine: float, wanted: int
) -> None:
    assert planner.replicas(rate, engine) == wanted


def test_an_engine_that_does_nothing_is_no_basis() -> None:
    with pytest.raises(ValueError, match="0 requests per second"):
        planner.replicas(10, 0)


def test_twice_the_load_wants_two_prefill_workers_and_one_decode_worker() -> None:
    assert planner.as_expected(load(10), LONE, 1, 1)["wanted"]["prefill"] == 1
    assert planner.as_expected(load(20), LONE, 2, 1)["wanted"]["decode"] == 1
    with pytest.raises(CheckFailed, match=r"20\.0 requests a second want 2P1D by the planner's sums, instead of 1P1D"):
        planner.as_expected(load(20), LONE, 1, 1)


def test_metrics_that_lack_what_the_planner_reads_are_found() -> None:
    with pytest.raises(CheckFailed, match="nothing is told of what the planner reads"):
        planner.wanted(load(10), Lone(0.08, Load(5.0, {**AVERAGES, "itl_seconds": None}, 1)))


def test_what_a_frontend_counted_is_read_as_the_planner_reads_it() -> None:
    after = metrics.parse((FOLDER / "frontend_metrics.txt").read_text(encoding="utf-8"))
    found = planner.between(metrics.parse(""), after, 2.0, 1)
    assert found.rate == after.total("dynamo_frontend_requests_started_total") / 2.0
    assert found.averages.keys() == {"ttft_seconds", "itl_seconds", "request_seconds", "input_tokens", "output_tokens"}
    assert all(value and value > 0 for value in found.averages.values()), found
    assert planner.between(after, after, 2.0, 1).averages["ttft_seconds"] is None


def test_a_prefills_time_is_the_answers_own() -> None:
    assert planner.prefill_seconds({"nvext": {"timing": {"prefill_time_ms": 84.9}}}) == 0.0849
    with pytest.raises(CheckFailed, match="does not say how long its prefill took"):
        planner.prefill_seconds({"nvext": {"timing": {}}})


def test_a_load_that_is_relieved_is_faster_and_as_fast_as_promised() -> None:
    assert planner.relieved(load(20, 0.9), load(20, 0.25, 2), 0.5)["ttft_limit_seconds"] == 0.5


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.6), (0.2, 0.25)])
def test_a_load_that_is_not_relieved_is_found(before: float, after: float) -> None:
    with pytest.raises(
        CheckFailed, match=rf"takes {after:.3f} s with 2 prefill workers, and took {before:.3f} s with 1"
    ):
        planner.relieved(load(20, before), load(20, after, 2), 0.5)


def test_where_no_worker_joined_nothing_is_relieved() -> None:
    with pytest.raises(CheckFailed, match="there are 1 prefill workers") as failed:
        planner.relieved(load(20, 0.9), load(20, 0.2), 0.5)
    assert failed.value.class_ == "test"


class _Program(FakeNodes):
    """A node whose programs end as a test says."""

    def __init__(self, *told: dict[str, Any]) -> None:
        super().__init__({})
        self._told = list(told)
        self.scripts: list[str] = []

    def run_python(self, _node: str, script: str) -> dict[str, Any]:
        self.scripts.append(script)
        return self._told.pop(0)


def test_the_planners_refusal_is_told_in_its_own_words() -> None:
    refusal = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'aisimulate_core'\n"
    trial = make_trial(_Program({"status": 1, "output": "", "error": refusal}), make_deployment(services=[FRONTEND]))
    with pytest.raises(
        CheckFailed, match=r"ends with status 1: ModuleNotFoundError: No module named 'aisimulate_core'"
    ):
        planner_program.planner_runs(trial)


def test_a_planner_that_starts_is_no_refusal() -> None:
    trial = make_trial(_Program({"status": 0, "output": "usage", "error": ""}), make_deployment(services=[FRONTEND]))
    assert planner_program.planner_runs(trial)["output"] == "usage"


class _Connector(FakeNodes):
    """A node where each side of the connector says what a test has it say; by default all goes well."""

    def __init__(self, **told: dict[str, Any]) -> None:
        super().__init__({})
        self._told = told

    def run_python(self, _node: str, script: str) -> dict[str, Any]:
        step = next(step for step in ("decide", "take", "complete") if f"'{step}'" in script)
        well = {"prefill": 2, "decode": 1, "ready": step == "decide"}
        return self._told.get(step) or {"status": 0, "output": json.dumps(well), "error": ""}


def scale(monkeypatch: pytest.MonkeyPatch, **told: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr(planner_program, "_joined", lambda _trial: {"joined": "worker-2"})
    return planner_program.scaled(make_trial(_Connector(**told), make_deployment(services=[FRONTEND])))


def said(**what: Any) -> dict[str, Any]:
    return {"status": 0, "output": json.dumps(what), "error": ""}


def test_a_decision_goes_over_and_is_told_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = scale(monkeypatch)
    assert (evidence["decided"]["ready"], evidence["joined"]) == (True, "worker-2")


def test_a_decision_that_the_other_side_does_not_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckFailed, match="decided 2P1D, and the environment's side reads"):
        scale(monkeypatch, take=said(prefill=1, decode=1, ready=False))


def test_a_planners_side_that_is_never_told_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckFailed, match="has scaled, and this does not know it"):
        scale(monkeypatch, decide=said(prefill=2, decode=1, ready=False))


def test_a_connector_that_refuses_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"status": 1, "output": "", "error": "Exception: no etcd"}
    with pytest.raises(CheckFailed, match="the planner's virtual connector refuses to take: Exception: no etcd"):
        scale(monkeypatch, take=refusal)
