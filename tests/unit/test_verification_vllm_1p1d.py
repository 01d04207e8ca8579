"""The order of the checks of vLLM's case, and what each outcome means for those after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case, exercise
from pyharness.engines.base import Counters
from pyharness.engines.vllm import VLLM
from pyharness.verification import one_pair, transfer
from pyharness.verification import test_vllm_1p1d_erdma as job
from pyharness.verification.wires import Snapshot
from tests.unit.builders import BYTES_PER_TOKEN, FakeNodes, make_deployment, make_trial

if TYPE_CHECKING:
    from pyharness.results import TransportUse
    from pyharness.verification.base import Recorder

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.vllm]

CASE = case.load("test_vllm_1p1d_erdma")
PROMPT = 28
WHOLE = 32 * BYTES_PER_TOKEN


def seen(count: int, computed: int, decode: int = 0) -> Snapshot:
    ends = {"address": "127.0.0.41", "port": 45000, "remote_address": "127.0.0.42", "remote_port": 12001}
    back = {"address": "127.0.0.42", "port": 12001, "remote_address": "127.0.0.41", "remote_port": 45000}
    near, far = ({**way, "bytes_sent": count, "bytes_received": count} for way in (ends, back))
    return Snapshot(
        {
            "prefill": Counters(None, None, None, computed, 32, 0),
            "decode": Counters(None, None, None, decode, 32, computed - decode),
        },
        {
            "one": {"services": {"prefill": {"connections": [near]}}, "rdma": []},
            "two": {"services": {"decode": {"connections": [far]}}, "rdma": []},
        },
    )


@pytest.fixture(autouse=True)
def _witnesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers and kernel have counted this prompt between the two looks."""
    monkeypatch.setattr(transfer, "snapshot", lambda _trial: seen(0, 0))
    monkeypatch.setattr(transfer, "snapshot_after", lambda _trial, _before, _tokens: seen(WHOLE, PROMPT))


class Asked:
    """Answers requests one after the other."""

    def __init__(self, *answers: tuple[int | None, Any]) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, url: str, body: dict[str, Any], timeout: float) -> exercise.Exchange:
        assert (url, timeout) == ("http://127.0.0.41:8000/v1/chat/completions", 60)
        self.bodies.append(body)
        status, document = self.answers.pop(0)
        problem = "connection refused" if status is None else None
        text = None if status is None else json.dumps(document)
        return exercise.Exchange("POST", url, body, status, {}, text, problem, 0.1)


def said(text: str, tokens: int = PROMPT) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": tokens}}


SHORT, RIGHT = said("x", 17), said("Paris is the capital.")
ALONE = {"method": "single_engine", "answer": {"text": "Paris is the capital.", "prompt_tokens": PROMPT}}


def exercised(
    asked: Asked, nodes: FakeNodes | None = None, reference: dict[str, Any] = ALONE
) -> tuple[Recorder, TransportUse]:
    deployment = make_deployment(reference=reference)
    trial = make_trial(nodes or FakeNodes({}), deployment, case=CASE, send=asked, engine=VLLM())
    job.exercise(trial)
    return trial.recorder, trial.transport


def statuses(recorder: Recorder) -> dict[str, str]:
    return {check.id: check.status for check in recorder.checks}


@pytest.mark.parametrize("reference", [ALONE, {"method": "pattern", "answer": None}])
def test_a_deployment_that_does_all_right_passes_every_check(reference: dict[str, Any]) -> None:
    asked = Asked(SHORT, RIGHT)
    recorder, used = exercised(asked, reference=reference)
    assert statuses(recorder) == dict.fromkeys(job.CHECKS[2:], "pass")
    assert used.used == "tcp"
    assert asked.bodies[0]["max_tokens"] == 1
    assert asked.bodies[1] == CASE.asked.body


@pytest.mark.parametrize("reference", [ALONE, {"method": "pattern", "answer": None}])
def test_a_wrong_text_is_one_failure_and_its_transfer_is_still_looked_at(reference: dict[str, Any]) -> None:
    recorder, _used = exercised(Asked(SHORT, said("Rome is.")), reference=reference)
    assert [failure.check for failure in recorder.failures] == ["answer_correct"]
    assert statuses(recorder)["kv_cache_moved"] == "pass"


def test_a_decode_that_computes_itself_fails_though_its_text_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "snapshot_after", lambda _trial, _before, _tokens: seen(0, PROMPT, decode=PROMPT))
    recorder, used = exercised(Asked(SHORT, RIGHT))
    assert [failure.check for failure in recorder.failures] == ["kv_cache_moved", "transport_used"]
    assert statuses(recorder)["answer_correct"] == "pass"
    assert used.used is None


def test_a_proxy_that_does_not_answer_ends_the_exercise() -> None:
    asked = Asked((None, None))
    recorder, used = exercised(asked)
    assert statuses(recorder) == {"router_ready": "fail", **dict.fromkeys(job.CHECKS[3:], "skipped")}
    assert len(asked.bodies) == 1
    assert used.used is None


def test_a_first_error_does_not_keep_the_request_under_test_from_being_made() -> None:
    recorder, _used = exercised(Asked((502, {}), RIGHT))
    assert statuses(recorder) == {"router_ready": "fail", **dict.fromkeys(job.CHECKS[3:], "pass")}


def test_without_an_answer_there_is_no_transfer_to_look_at() -> None:
    recorder, _used = exercised(Asked(SHORT, (502, {"error": "boom"})))
    assert statuses(recorder)["answer_correct"] == "fail"
    assert statuses(recorder)["kv_cache_moved"] == statuses(recorder)["transport_used"] == "skipped"


def test_a_service_that_died_is_blamed_rather_than_the_proxy() -> None:
    recorder, _used = exercised(Asked(SHORT, (502, {})), FakeNodes({}, dead=["decode"]))
    (failure,) = recorder.failures
    assert failure.evidence.startswith("service decode on two (pid 102) has ended")


def test_what_runs_is_looked_at_as_with_any_pair() -> None:
    assert job.verify is one_pair.verify
