"""Checks of workers under faults, where nothing is really done to anybody: what they make of what is seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import exercise
from pyharness.exercise import Exchange
from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import asking, leaving_clients, metrics, outages, stalling, worker_faults
from pyharness.verification.dynamo.asking import Reply
from tests.unit.builders import FakeNodes, make_deployment, make_service, make_trial

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

WORKERS = [make_service("decode", name=name).model_copy(update={"kind": "worker"}) for name in ("worker-1", "worker-2")]
FRONTEND = make_service("router", name="frontend").model_copy(update={"kind": "frontend"})
IDS = {11: "worker-1", 12: "worker-2"}


def trial(**workload: Any) -> Trial:
    services = [service.model_dump() for service in (*WORKERS, FRONTEND)]
    return make_trial(FakeNodes({}), make_deployment(services=services, workload={"answer_seconds": 1, **workload}))


def answered_by(monkeypatch: pytest.MonkeyPatch, *workers: int) -> None:
    """Have requests answered by these workers, one after the other and over again."""
    turns = [workers[place % len(workers)] for place in range(1000)]

    def reply(_exchange: object) -> Reply:
        number = turns.pop(0)
        return Reply(" ", "length", {}, number, number, None, 0.01)

    monkeypatch.setattr(asking, "ask", lambda *_what: None)
    monkeypatch.setattr(asking, "reply", reply)
    monkeypatch.setattr(metrics, "worker_ids", lambda _trial: IDS)


def counts(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Have /metrics say these, one after the other, the last for ever."""
    left = list(texts)

    def get(url: str, _timeout: float) -> Exchange:
        body = left.pop(0) if len(left) > 1 else left[0]
        return Exchange("GET", url, None, 200, {}, body, None, 0.0)

    monkeypatch.setattr(exercise, "get", get)


def test_a_worker_that_answers_one_request_of_a_round_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 11, 12)
    assert worker_faults.answers(trial(), WORKERS[1])


def test_a_worker_that_answers_none_of_a_round_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 11)
    assert not worker_faults.answers(trial(), WORKERS[1])


def test_a_worker_without_an_id_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 11)
    monkeypatch.setattr(metrics, "worker_ids", lambda _trial: {11: "worker-1"})
    assert not worker_faults.answers(trial(), WORKERS[1])


def test_a_stream_that_is_under_way_shows_that_its_worker_works(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 11)
    under_way: Any = SimpleNamespace(is_over=False)
    assert worker_faults.works(trial(), WORKERS[1], under_way)
    under_way.is_over = True
    assert not worker_faults.works(trial(), WORKERS[1], under_way)


def test_streams_that_moved_are_counted_without_requests_that_had_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    name = worker_faults.MIGRATIONS
    counts(monkeypatch, f'{name}{{migration_type="ongoing_request"}} 2\n{name}{{migration_type="new_request"}} 7\n')
    assert worker_faults.migrations(trial()) == 2


def test_when_a_worker_has_no_work_any_more_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = (f'{metrics.UNDER_WAY}{{dynamo_endpoint="generate"}} {count}\n' for count in (1, 0))
    counts(monkeypatch, busy, busy, idle)
    with leaving_clients.Idle(WORKERS[0]) as looked:
        assert looked.wait(0.0, float("inf")) is not None


def test_a_worker_that_goes_on_working_is_never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    counts(monkeypatch, f'{metrics.UNDER_WAY}{{dynamo_endpoint="generate"}} 1\n')
    with leaving_clients.Idle(WORKERS[0]) as looked:
        assert looked.wait(0.0, 0.0) is None


def stopped() -> stalling.Stalled:
    return stalling.Stalled(worker=WORKERS[1], number=12)


def test_a_worker_that_is_known_again_has_rejoined(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 11)
    counts(monkeypatch, f'{stalling.LOAD}{{worker_id="11"}} 0\n{stalling.LOAD}{{worker_id="12"}} 0\n')
    assert stalling.rejoins(trial(renewal_seconds=0.0), stopped())["answered_by"] == [11]


def test_a_worker_that_answers_has_rejoined(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 12)
    counts(monkeypatch, "")
    assert stalling.rejoins(trial(renewal_seconds=0.0), stopped())["answered_by"] == [12]


def test_a_worker_that_nobody_knows_any_more_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answered_by(monkeypatch, 11)
    counts(monkeypatch, f'{stalling.LOAD}{{worker_id="11"}} 0\n')
    with pytest.raises(CheckFailed, match="worker-2 goes on, and the frontend does not know it any more"):
        stalling.rejoins(trial(renewal_seconds=0.0), stopped())


def test_a_stopped_worker_that_is_never_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    counts(monkeypatch, f'{stalling.LOAD}{{worker_id="12"}} 0\n')
    with pytest.raises(CheckFailed, match="has a stopped worker among its workers still"):
        stalling._dropped(trial(drop_seconds=0.0), 12, 0.0)


def test_what_is_registered_is_read_from_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def post(url: str, body: Any, _timeout: float) -> Exchange:
        asked.append(body)
        # v1/instances/b and v1/instances/a
        text = '{"kvs": [{"key": "djEvaW5zdGFuY2VzL2I="}, {"key": "djEvaW5zdGFuY2VzL2E="}]}'
        return Exchange("POST", url, body, 200, {}, text, None, 0.0)

    monkeypatch.setattr(exercise, "post", post)
    assert outages.instances(FRONTEND) == ["v1/instances/a", "v1/instances/b"]
    assert asked == [{"key": "djEvaW5zdGFuY2VzLw==", "range_end": "djEvaW5zdGFuY2VzMA==", "keys_only": True}]


def test_an_etcd_that_says_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        exercise, "post", lambda url, body, _seconds: Exchange("POST", url, body, None, {}, None, "refused", 0.0)
    )
    with pytest.raises(CheckFailed, match="frontend does not tell its keys: refused"):
        outages.instances(FRONTEND)
