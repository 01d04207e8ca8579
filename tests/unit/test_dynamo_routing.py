"""Where a router sends requests, and what happens when workers join and leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import pytest

from pyharness import faults
from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import asking, deployed, load, membership, metrics, routing
from pyharness.verification.dynamo.asking import Reply
from pyharness.verification.dynamo.load import Sent
from tests.unit import dynamo_recorded as recorded
from tests.unit.dynamo_recorded import RECORDED, Living, document, exchange, service
from tests.unit.fake_http import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial
    from tests.unit.fake_http import FakeServer, Request

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.dynamo]

NAMES = {1: "worker-1", 2: "worker-2"}
THIRD = service("worker-3", "worker", "http://127.0.0.1:9", pid=103)


def a_trial(url: str = "http://127.0.0.1:9", **changes: Any) -> Trial:
    services = [service("frontend", "frontend", url), *(service(name, "worker", url) for name in NAMES.values())]
    return recorded.trial("test_dynamo_router", services, **changes)


def failure(check: Any, *arguments: Any, class_: str = "product", **options: Any) -> str:
    with pytest.raises(CheckFailed) as raised:
        check(*arguments, **options)
    assert raised.value.class_ == class_
    return str(raised.value)


def replied(worker: int, cached: int = 96) -> Reply:
    usage = {"prompt_tokens_details": {"cached_tokens": cached}}
    return Reply("word", "length", usage, worker, worker, cached / 128, 0.1)


def test_a_recorded_reply_says_who_gave_it() -> None:
    told = asking.reply(exchange("again"))
    assert told.decode == told.prefill == document("again")["nvext"]["worker_id"]["decode_worker_id"]
    assert told.hit_rate == pytest.approx(2 / 3)
    assert told.cached_tokens == document("again")["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert asking.prompt("a", 3) == asking.prompt("a", 3) != asking.prompt("b", 3)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("timeout", {}, "HTTP 504"),
        ("completion", {"problem": "no answer within 1 s"}, "no answer within 1 s"),
        ("completion", {"body": "{}"}, "without a choice"),
        ("completion", {"body": '{"choices": [{"text": ""}]}'}, "an empty text"),
    ],
)
def test_what_is_no_reply(name: str, changes: dict[str, Any], told: str) -> None:
    assert told in failure(asking.reply, exchange(name, **changes))
    several = [exchange("completion"), exchange(name, **changes)]
    assert failure(asking.replies, several).startswith("1 of 2 requests failed, the first with ")


KEEPS = [[replied(1, 0), replied(1), replied(1)], [replied(2, 0), replied(2), replied(2)]]
TURNS = [[replied(1, 0), replied(2, 0), replied(1)], [replied(2, 0), replied(1, 0), replied(2)]]


def test_prefixes_that_are_kept_and_turns_that_are_taken() -> None:
    told = routing.routed_as_declared(a_trial(), "kv", KEEPS, NAMES)
    assert (told["share_on_holder"], told["cached_tokens"]["least"]) == (1.0, 96)
    told = routing.routed_as_declared(a_trial(), "round-robin", TURNS, NAMES)
    assert told["by_worker"] == {"worker-1": 3, "worker-2": 3}


def test_a_router_that_does_otherwise_than_declared() -> None:
    told = failure(routing.routed_as_declared, a_trial(), "kv", TURNS, NAMES)
    assert told.startswith("50% of 4 requests went to the worker that holds their beginning, and 95%")
    uneven = [[replied(1), replied(1), replied(1)], [replied(2), replied(1), replied(1)]]
    told = failure(routing.routed_as_declared, a_trial(), "round-robin", uneven, NAMES)
    assert "not {'worker-1': 5, 'worker-2': 1}" in told
    cold = [[replied(1, 0), replied(1, 80)]]
    assert "found 80 of 96 tokens" in failure(routing.routed_as_declared, a_trial(), "kv", cold, NAMES)


def test_each_groups_first_is_asked_before_the_others() -> None:
    asked: list[tuple[int, ...]] = []

    def send(_url: str, body: dict[str, Any], _seconds: float) -> Any:
        asked.append(tuple(body["prompt"]))
        return exchange("completion")

    trial = a_trial(send=send, workload={"prefix_groups": 3, "prefix_requests": 2})
    seen: list[int] = []
    groups = routing.asked_in_groups(trial, lambda: seen.append(len(asked)))
    assert ([len(group) for group in groups], seen, len(set(asked))) == ([2, 2, 2], [3], 6)
    assert len({prompt[:96] for prompt in asked}) == 3


# -- many at a time


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving("127.0.0.41") as found:
        yield found


def in_turns(share: int = 2) -> Callable[[Request], Answer]:
    """Answer from worker 1, and each so-manieth time from worker 2."""
    count = [0]

    def answer(_request: Request) -> Answer:
        count[0] += 1
        who = {"worker_id": {"decode_worker_id": 2 if count[0] % share == 0 else 1}}
        return Answer(body={"choices": [{"text": " a"}], "nvext": who})

    return answer


def counting_all(monkeypatch: pytest.MonkeyPatch, server: FakeServer, first: int, second: int, routed: int) -> None:
    """Have workers and router count nothing before they are asked, and so much afterwards."""

    def look(_trial: Trial, _frontend: Service) -> tuple[dict[str, int], int]:
        asked = bool(server.requests)
        return {"worker-1": first * asked, "worker-2": second * asked}, routed * asked

    monkeypatch.setattr(routing, "_look", look)


FEW = {"balance_requests": 8, "balance_at_once": 4}


def test_a_load_that_is_spread(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/v1/completions"] = in_turns()
    counting_all(monkeypatch, server, 4, 4, 8)
    told = routing.balanced(a_trial(server.url, workload=FEW), "round-robin", NAMES)
    assert (told["by_worker"], told["largest_share"]) == ({"worker-1": 4, "worker-2": 4}, 0.5)


@pytest.mark.parametrize(("mode", "allowed"), [("kv", "65%"), ("round-robin", "62%")])
def test_a_load_on_one_worker(server: FakeServer, monkeypatch: pytest.MonkeyPatch, mode: str, allowed: str) -> None:
    server.answers["/v1/completions"] = in_turns(4)
    counting_all(monkeypatch, server, 6, 2, 8)
    told = failure(routing.balanced, a_trial(server.url, workload=FEW), mode, NAMES)
    assert "one worker got 75%" in told
    assert f"{allowed} is allowed" in told


def test_a_load_that_is_counted_otherwise(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/v1/completions"] = in_turns()
    counting_all(monkeypatch, server, 4, 5, 8)
    assert "workers count {'worker-1': 4, 'worker-2': 5}" in failure(
        routing.balanced, a_trial(server.url, workload=FEW), "kv", NAMES
    )


def test_a_load_of_which_some_failed(server: FakeServer) -> None:
    server.answers["/v1/completions"] = Answer(503, {"message": "no"})
    (sent,) = load.burst(a_trial(server.url), [[300]], 1, 2)
    assert failure(load.all_answered, [sent]).startswith("1 of 1 requests failed, the first: HTTP 503")
    assert "none sent" in failure(load.all_answered, [])
    (sent,) = load.burst(a_trial("http://127.0.0.41:9"), [[300]], 1, 2)
    assert sent.problem
    assert sent.problem.startswith("ConnectError")


# -- NATS


def varz(*, jetstream: bool, **changes: Any) -> dict[str, Any]:
    enabled = {"config": {"store_dir": "/x"}} if jetstream else {}
    return {"version": "2.9.10", "jetstream": enabled, "connections": 3, "in_msgs": 20, "out_msgs": 14, **changes}


def test_nats_as_it_was_declared() -> None:
    told = routing.nats_as_declared(varz(jetstream=True), {"streams": 0}, 3, jetstream=True)
    assert (told["jetstream"], told["streams"], told["connections"]) == (True, 0, 3)
    assert routing.nats_as_declared(varz(jetstream=False), {"disabled": True}, 3, jetstream=False)
    for has in (True, False):
        told_of = failure(
            routing.nats_as_declared, varz(jetstream=has), {}, 3, jetstream=not has, class_="configuration"
        )
        assert told_of.startswith(f"JetStream of NATS is {'on' if has else 'off'}")
    for lacks in ({"connections": 2}, {"in_msgs": 0}):
        assert "NATS has" in failure(routing.nats_as_declared, varz(jetstream=False, **lacks), {}, 3, jetstream=False)


# -- joining and leaving


class Crowd:
    """Stands in for `load.Steady`: what was sent is known beforehand."""

    def __init__(self, before: list[Sent], after: list[Sent]) -> None:
        self.sent, self._after = [*before, *after], after

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave."""

    def since(self, _moment: float) -> list[Sent]:
        return self._after


def sent(**workers: int) -> list[Sent]:
    names = {"one": 1, "two": 2, "three": 3}
    return [Sent(0.0, 0.1, names[name], None) for name, count in workers.items() for _place in range(count)]


def membership_of(monkeypatch: pytest.MonkeyPatch, crowd: Crowd, instances: int) -> Trial:
    monkeypatch.setattr(membership, "_steady", lambda _trial: crowd)
    monkeypatch.setattr(faults, "for_good", lambda _trial, fault: {"fault": fault.name})
    monkeypatch.setattr(metrics, "worker_ids", lambda _trial: {**NAMES, 3: "worker-3"})
    monkeypatch.setattr(deployed, "instances", lambda _trial: [{}] * instances)
    return a_trial(workload={"join_seconds": 0, "forgotten_seconds": 0})


def test_a_worker_that_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = membership_of(monkeypatch, Crowd(sent(one=5, two=5), sent(one=10, two=10, three=10)), 3)
    told = membership.joins(trial, THIRD)
    assert (told["by_worker_since"]["worker-3"], told["requests"], told["failed"]) == (10, 40, 0)
    trial = membership_of(monkeypatch, Crowd([], sent(one=10, two=10, three=9)), 3)
    assert "got 9 of 29 requests" in failure(membership.joins, trial, THIRD)
    lost = [Sent(0.0, 0.1, None, "HTTP 503")]
    trial = membership_of(monkeypatch, Crowd(lost, sent(one=10, two=10, three=10)), 3)
    assert "1 of 31 requests failed" in failure(membership.joins, trial, THIRD)


def test_a_worker_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = sent(one=5, two=5, three=5), sent(one=10, two=10)
    told = membership.leaves(membership_of(monkeypatch, Crowd(before, after), 2), THIRD)
    assert told["by_worker_afterwards"] == {"worker-1": 10, "worker-2": 10}
    lost = [*before, Sent(0.0, 0.1, None, "HTTP 503")]
    assert "1 of 36 requests failed" in failure(
        membership.leaves, membership_of(monkeypatch, Crowd(lost, after), 2), THIRD
    )
    still = membership_of(monkeypatch, Crowd(before, sent(one=10, two=10, three=1)), 2)
    assert "'worker-3': 1}, and ['worker-1', 'worker-2']" in failure(membership.leaves, still, THIRD)
    kept = membership_of(monkeypatch, Crowd(before, after), 3)
    assert "discovery has 3 instances" in failure(membership.leaves, kept, THIRD)
    idle = membership_of(monkeypatch, Crowd(sent(one=5, two=5), after), 2)
    assert "its drain was not tried" in failure(membership.leaves, idle, THIRD, class_="test")


def test_clients_that_ask_one_thing_after_the_other(server: FakeServer) -> None:
    server.answers["/v1/completions"] = in_turns()
    with load.Steady(a_trial(server.url), 2, 8, 2) as steady:
        while len(steady.sent) < 6:
            pass
    assert load.all_answered(steady.sent)["requests"] >= 6
    assert len({request.body for request in server.requests}) == len(server.requests)
    assert steady.since(0.0) == steady.sent
    assert set(load.by_worker(steady.sent, {1: "worker-1"})) == {"worker-1", "unknown 2"}


# -- who is there


def test_instances_are_those_that_give_answers(server: FakeServer) -> None:
    server.answers["/health"] = Answer(body=document("health"))
    assert len(document("health")["instances"]) == 4
    assert len(deployed.instances(a_trial(server.url))) == 2
    server.answers["/health"] = Answer(body=b"none")
    assert deployed.instances(a_trial(server.url)) == []


def test_a_worker_is_known_by_its_own_metrics(server: FakeServer) -> None:
    server.answers["/metrics"] = Answer(body=RECORDED["worker_1_metrics"].encode())
    (only,) = set(metrics.worker_ids(a_trial(server.url)))
    assert only in {one["instance_id"] for one in document("health")["instances"]}
    server.answers["/metrics"] = Answer(body=b"up 1\n")
    assert "has 0 ids in its metrics" in failure(metrics.worker_ids, a_trial(server.url))


def test_workers_are_those_that_live(server: FakeServer) -> None:
    assert [one.name for one in metrics.workers(a_trial(server.url))] == ["worker-1", "worker-2"]
    trial = a_trial(server.url, nodes=Living({}, dead=["worker-1"]))
    assert [one.name for one in metrics.workers(trial)] == ["worker-2"]


def test_every_worker_has_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "worker_ids", lambda _trial: NAMES)

    def answering(*ids: int, status: int = 200) -> Trial:
        turn = list(ids)

        def send(_url: str, _body: dict[str, Any], _seconds: float) -> Any:
            turn.append(turn.pop(0))
            who = {"worker_id": {"decode_worker_id": turn[-1]}}
            said = {"choices": [{"text": " a"}], "nvext": who}
            return exchange("completion", status=status, body=json.dumps(said))

        return a_trial(send=send, workload={"well_seconds": 0})

    told = deployed.every_worker_answers(answering(1, 2))
    assert told["last"]["answered"] == {"worker-1": 2, "worker-2": 2}
    assert "not every worker answers: {'answered': {'worker-1': 4}" in failure(
        deployed.every_worker_answers, answering(1)
    )
    assert "HTTP 503" in failure(deployed.every_worker_answers, answering(1, 2, status=503))
