"""The order of the main job's checks, and what each outcome means for those after it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyharness import case, exercise
from pyharness.engines.base import Counters
from pyharness.results import TransportUse
from pyharness.verification import services, transfer, wheel
from pyharness.verification import test_1p1d_erdma as job
from pyharness.verification.base import CheckFailed, Evidence, Recorder
from pyharness.verification.transfer import Snapshot
from tests.unit.builders import BYTES_PER_TOKEN, FakeNodes, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = case.load("test_1p1d_erdma")
WHOLE = 13 * BYTES_PER_TOKEN


def seen(count: int, tokens: int) -> Snapshot:
    ends = {"address": "127.0.0.41", "port": 12001, "remote_address": "127.0.0.42", "remote_port": 45000}
    back = {"address": "127.0.0.42", "port": 45000, "remote_address": "127.0.0.41", "remote_port": 12001}
    near, far = ({**way, "bytes_sent": count, "bytes_received": count} for way in (ends, back))
    return Snapshot(
        {"prefill": Counters(count, 1, 0, tokens), "decode": Counters(0, 0, 0, 0)},
        {
            "one": {"services": {"prefill": {"connections": [near]}}, "rdma": []},
            "two": {"services": {"decode": {"connections": [far]}}, "rdma": []},
        },
    )


@pytest.fixture(autouse=True)
def _witnesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers and kernel have counted this prompt's bytes between the two looks."""
    monkeypatch.setattr(transfer, "snapshot", lambda _trial: seen(0, 0))
    monkeypatch.setattr(transfer, "snapshot_after", lambda _trial, _before, _tokens: seen(WHOLE, 13))


class Asked:
    """Answers requests one after the other."""

    def __init__(self, *answers: tuple[int | None, Any]) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, url: str, body: dict[str, Any], timeout: float) -> exercise.Exchange:
        assert (url, timeout) == ("http://127.0.0.41:8000/generate", 30)
        self.bodies.append(body)
        status, document = self.answers.pop(0)
        problem = "connection refused" if status is None else None
        text = None if status is None else json.dumps(document)
        return exercise.Exchange("POST", url, body, status, {}, text, problem, 0.1)


SHORT = (200, {"text": "x", "meta_info": {"prompt_tokens": 1}})
RIGHT = (200, {"text": "hello world", "meta_info": {"prompt_tokens": 13}})


def exercised(asked: Asked, nodes: FakeNodes | None = None) -> tuple[Recorder, TransportUse]:
    trial = make_trial(nodes or FakeNodes({}), case=CASE, send=asked)
    job.exercise(trial)
    return trial.recorder, trial.transport


def statuses(recorder: Recorder) -> dict[str, str]:
    return {check.id: check.status for check in recorder.checks}


def test_a_deployment_that_does_all_right_passes_every_check() -> None:
    asked = Asked(SHORT, RIGHT)
    recorder, used = exercised(asked)
    assert statuses(recorder) == dict.fromkeys(job.CHECKS[2:], "pass")
    assert not recorder.failures
    assert used.used == "tcp"
    assert used.evidence[0]["trial"] == "org/model"
    assert asked.bodies[0]["sampling_params"]["max_new_tokens"] == 1
    assert asked.bodies[1] == CASE.asked.body


def test_a_router_that_does_not_answer_ends_the_exercise() -> None:
    asked = Asked((None, None))
    recorder, used = exercised(asked)
    assert statuses(recorder) == {"router_ready": "fail", **dict.fromkeys(job.CHECKS[3:], "skipped")}
    assert len(asked.bodies) == 1
    assert used.used is None


def test_a_first_error_does_not_keep_the_request_under_test_from_being_made() -> None:
    recorder, _used = exercised(Asked((500, {}), RIGHT))
    assert statuses(recorder) == {"router_ready": "fail", **dict.fromkeys(job.CHECKS[3:], "pass")}


def test_a_wrong_text_is_one_failure_and_its_transfer_is_still_looked_at() -> None:
    recorder, _used = exercised(Asked(SHORT, (200, {"text": "other", "meta_info": {"prompt_tokens": 13}})))
    assert [failure.check for failure in recorder.failures] == ["answer_correct"]
    assert statuses(recorder)["kv_cache_moved"] == "pass"


def test_without_an_answer_there_is_no_transfer_to_look_at() -> None:
    recorder, _used = exercised(Asked(SHORT, (500, {"error": "boom"})))
    assert statuses(recorder)["answer_correct"] == "fail"
    assert statuses(recorder)["kv_cache_moved"] == statuses(recorder)["transport_used"] == "skipped"


def test_a_service_that_died_is_blamed_rather_than_the_router() -> None:
    recorder, _used = exercised(Asked(SHORT, (503, {})), FakeNodes({}, dead=["decode"]))
    (failure,) = recorder.failures
    assert failure.evidence.startswith("service decode on two (pid 102) has ended")
    assert "< HTTP 503" in recorder.checks[1].evidence["exchange"]


def test_a_service_that_died_after_its_answer_does_not_spoil_it() -> None:
    recorder, _used = exercised(Asked(SHORT, RIGHT), FakeNodes({}, dead=["decode"]))
    assert not recorder.failures


@pytest.mark.parametrize(
    ("each", "used"), [(["tcp", "tcp"], "tcp"), (["tcp", "rdma"], None), ([None, "tcp"], None), (["tcp", None], None)]
)
def test_the_run_has_one_transport_only_if_every_model_used_it(each: list[str | None], used: str | None) -> None:
    transport = TransportUse(declared="rdma")
    for number, one in enumerate(each):
        trial = make_trial(FakeNodes({}), transport=transport, recorder=Recorder(f"model-{number}", []))
        trial.note_transport(one, [{"witness": "w"}])
    assert transport.used == used
    assert [entry["trial"] for entry in transport.evidence] == ["model-0", "model-1"]


def verified(monkeypatch: pytest.MonkeyPatch, **failing: CheckFailed) -> tuple[bool, Recorder]:
    def check(name: str) -> Evidence:
        if name in failing:
            raise failing[name]
        return {}

    monkeypatch.setattr(services, "services_are_ours", lambda _trial: check("services"))
    monkeypatch.setattr(wheel, "wheel_in_use", lambda _trial: check("wheel"))
    trial = make_trial(FakeNodes({}))
    return job.verify(trial), trial.recorder


def test_servers_of_ours_are_worth_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    worth, recorder = verified(monkeypatch)
    assert worth
    assert statuses(recorder) == dict.fromkeys(job.CHECKS[:2], "pass")


def test_strangers_are_not_worth_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    worth, recorder = verified(monkeypatch, services=CheckFailed("not ours", hint="look"))
    assert not worth
    assert set(statuses(recorder)) == set(job.CHECKS)
    assert statuses(recorder)["answer_correct"] == "skipped"


def test_a_wrong_wheel_is_worth_asking_for_what_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    worth, recorder = verified(monkeypatch, wheel=CheckFailed("wrong", hint="look", spoils_judgement=True))
    assert worth
    assert recorder.failures[0].spoils_judgement
