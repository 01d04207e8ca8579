"""Requests that were split between prefill and decode, and such that were not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import asking, events, metrics, splitting
from pyharness.verification.dynamo.asking import Reply
from pyharness.verification.dynamo.events import Event
from pyharness.verification.dynamo.index import Follower
from pyharness.verification.dynamo.splitting import Asked, Moment
from tests.unit import dynamo_recorded as recorded
from tests.unit.dynamo_recorded import answering, document, exchange, service
from tests.unit.fake_http import Answer, serving

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.dynamo]

NAMES = {1: "worker-1", 2: "worker-2"}
SPLIT = Asked(
    [320, 80],
    25,
    [Reply("a", "length", {}, 1, 2, 0.0, 0.1)] * 2,
    {
        "taken": {"worker-1": 2, "worker-2": 2},
        "stored_blocks": {"worker-1": 25},
        "router_tokens": {"prefill": 400, "decode": 400},
    },
)
LOCAL = Asked(
    [350],
    2,
    [Reply("a", "length", {"prompt_tokens_details": {"cached_tokens": 320}}, None, 2, 0.9, 0.1)],
    {"taken": {"worker-1": 0, "worker-2": 1}, "stored_blocks": {"worker-1": 0}, "router_tokens": {"decode": 350}},
)


def a_trial(url: str = "http://127.0.0.1:9", **changes: Any) -> Trial:
    services = [
        service("frontend", "frontend", url),
        service("worker-1", "prefill", url, endpoints={"kv_replay": "tcp://127.0.0.1:9"}),
        service("worker-2", "decode", url, endpoints={}),
    ]
    return recorded.trial("test_dynamo_disagg", services, **changes)


def failure(check: Any, *arguments: Any) -> str:
    with pytest.raises(CheckFailed) as raised:
        check(*arguments)
    assert raised.value.class_ == "product"
    return str(raised.value)


def counted(asked: Asked, what: str, **values: int) -> Asked:
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return replace(asked, counted={**asked.counted, what: {**asked.counted[what], **named}})


def test_a_split_is_told_with_its_figures() -> None:
    told = splitting.split(a_trial(), SPLIT, NAMES)
    assert told["routes"] == ["worker-1 -> worker-2"]
    assert told["by_kind"] == {
        "prefill": {"taken": 2, "stored_blocks": 25},
        "decode": {"taken": 2, "stored_blocks": 0},
    }
    # A router by turns counts no tokens.
    assert splitting.split(a_trial(), replace(SPLIT, counted={**SPLIT.counted, "router_tokens": {}}), NAMES)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (counted(SPLIT, "taken", worker_1=0), "prefill took 0 and decode 2 of 2 requests"),
        (counted(SPLIT, "taken", worker_2=3), "prefill took 2 and decode 3 of 2 requests"),
        (counted(SPLIT, "stored_blocks", worker_1=5), "prefill stored 5 blocks, and the prompts have 25 that are new"),
        (counted(SPLIT, "router_tokens", prefill=320), "sent 320 tokens to prefill, and the prompts have 400"),
        (replace(SPLIT, replies=[Reply("a", "length", {}, 2, 2, 0.0, 0.1)] * 2), "[('worker-2', 'worker-2')]"),
        (replace(SPLIT, replies=[Reply("a", "length", {}, None, 2, 0.0, 0.1)] * 2), "[('nobody', 'worker-2')]"),
        (replace(SPLIT, replies=[Reply("a", "length", {}, 9, 2, 0.0, 0.1)] * 2), "unknown 9"),
        (
            replace(SPLIT, replies=[replace(SPLIT.replies[0], usage=LOCAL.replies[0].usage)] * 2),
            "decode had 640 tokens in a cache of its own",
        ),
    ],
)
def test_requests_that_were_not_split(asked: Asked, told: str) -> None:
    said = failure(splitting.split, a_trial(), asked, NAMES)
    assert said.startswith("requests were not split: ")
    assert told in said


def test_what_decode_answers_alone() -> None:
    assert splitting.local(a_trial(), LOCAL, NAMES)["cached_tokens"] == [320]
    split = counted(counted(LOCAL, "taken", worker_1=1), "stored_blocks", worker_1=1)
    assert "prefill took 1, and decode 1" in failure(splitting.local, a_trial(), split, NAMES)
    named = replace(LOCAL, replies=[replace(LOCAL.replies[0], prefill=1)])
    assert "answers name ['worker-1'] for their prefill" in failure(splitting.local, a_trial(), named, NAMES)


def test_only_prefill_is_asked_for_its_events() -> None:
    assert [one.service.name for one in splitting.followers(a_trial())] == ["worker-1"]


def test_what_is_new_is_what_prefill_did_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = asking.prompt("x", 48)
    follower = Follower(service("worker-1", "prefill", "http://127.0.0.1:9"))
    follower.held.apply(Event(0, events.STORED, (1,), None, tuple(prompt[:16]), 16))
    looks = [
        Moment({"worker-1": 1, "worker-2": 1}, {"worker-1": 1}, {"prefill": 16}),
        Moment({"worker-1": 2, "worker-2": 2}, {"worker-1": 3}, {"prefill": 64, "decode": 48}),
    ]
    monkeypatch.setattr(splitting, "look", lambda _trial, _followers: looks.pop(0))
    said = document("completion")
    trial = a_trial(send=lambda *_asked: answering(said))
    asked = splitting.ask(trial, [prompt], [follower])
    assert (asked.prompts, asked.new_blocks) == ([48], 2)
    assert asked.counted == {
        "taken": {"worker-1": 1, "worker-2": 1},
        "stored_blocks": {"worker-1": 2},
        "router_tokens": {"prefill": 48, "decode": 48},
    }


def test_a_look_reads_all_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'dynamo_component_router_input_sequence_tokens_sum{phase="prefill",router_id="1"} 320\n'
    with serving("127.0.0.41") as server:
        server.answers["/metrics"] = Answer(body=text.encode())
        monkeypatch.setattr(metrics, "taken", lambda _trial: {"worker-1": 1})
        told = splitting.look(a_trial(server.url), [])
    assert (told.taken, told.stored, told.phases) == ({"worker-1": 1}, {}, {"prefill": 320})


NOT_READY = {"message": "Model `x` is not ready to serve requests yet.", "type": "Service Unavailable", "code": 503}
NO_MODELS = answering({"object": "list", "data": []})


def test_nothing_is_served_without_prefill() -> None:
    told = splitting.not_served(answering(NOT_READY, 503), NO_MODELS)
    assert (told["models"], told["request"]["status"]) == ([], 503)
    assert "HTTP 503 with an error object" in failure(splitting.not_served, exchange("chat"), NO_MODELS)
    assert "HTTP 503 with an error object" in failure(splitting.not_served, answering({}, 500), NO_MODELS)
    listed = failure(splitting.not_served, answering(NOT_READY, 503), exchange("models"))
    assert "/v1/models lists ['Qwen/Qwen3-8B']" in listed
    assert splitting.listed(answering("none", 404)) == ["HTTP 404"]


def test_a_frontend_without_a_model_is_not_healthy() -> None:
    told = failure(splitting.health_tells, exchange("health"), [])
    assert told == "/health answers HTTP 200 and 'healthy' with 0 models"
    assert splitting.health_tells(exchange("health"), ["x"])["says"] == "healthy"
    assert splitting.health_tells(answering({"status": "unhealthy"}, 503), [])["status"] == 503


def test_decode_alone_has_to_be_known_first() -> None:
    with serving("127.0.0.41") as server:
        server.answers |= {"/health": Answer(body=document("health")), "/v1/models": Answer(body={"data": []})}
        at_once = {"discovery_seconds": 0, "forgotten_seconds": 0}
        trial = a_trial(server.url, send=lambda *_asked: answering(NOT_READY, 503), workload=at_once)
        answer, models, health = splitting.decode_alone(trial)
        assert (answer.status, splitting.listed(models), health.status) == (503, [], 200)
        assert splitting.no_more_served(replace(trial, send=lambda *_asked: answering(NOT_READY, 503)))["models"] == []
        server.answers["/health"] = Answer(body=json.dumps({"instances": []}).encode())
        assert "knows 0 of 1 decode workers" in failure(splitting.decode_alone, trial)
