"""A model is there once it has answered, in three steps, and a service that dies ends the waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness.verification import model_ready
from pyharness.verification.base import CheckFailed
from pyharness.verification.model_ready import Wanted
from tests.unit import dynamo_recorded as recorded
from tests.unit.dynamo_recorded import Living, document, exchange, service
from tests.unit.fake_http import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial
    from tests.unit.fake_http import FakeServer

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.dynamo]


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_ready, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving("127.0.0.41") as found:
        found.answers["/v1/models"] = Answer(body=document("models"))
        yield found


class Answers:
    """Stands in for `Trial.send`: one answer after the other, the last for ever."""

    def __init__(self, *answers: Exchange) -> None:
        self.answers = list(answers)
        self.limits: list[float] = []

    def __call__(self, _url: str, _body: dict[str, Any], seconds: float) -> Exchange:
        self.limits.append(seconds)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def a_trial(server: FakeServer, answers: Answers, nodes: Living | None = None) -> Trial:
    return recorded.trial(
        "test_dynamo_serve", [service("frontend", "frontend", server.url)], nodes or Living({}), send=answers
    )


def wanted(server: FakeServer, *counts: int) -> Wanted:
    left = list(counts)
    return Wanted(2, lambda: left.pop(0) if len(left) > 1 else left[0], server.url, "/v1/completions", {}, 0.3)


def test_three_steps_are_told_with_their_seconds(server: FakeServer) -> None:
    answers = Answers(exchange("timeout", status=503), exchange("completion", body="{}"), exchange("completion"))
    told = model_ready.model_available(a_trial(server, answers), wanted(server, 0, 1, 2))
    assert told["instances"]["known"] == 2
    assert told["instances"]["seconds"] >= 0.1
    assert told["listed"]["models"] == [recorded.MODEL]
    assert [attempt["status"] for attempt in told["answered"]["attempts"]] == [503, 200, 200]
    assert [attempt.get("said", "")[:8] for attempt in told["answered"]["attempts"]] == ["HTTP 503", "the answ", ""]


def test_attempts_have_dynamos_own_limits(server: FakeServer) -> None:
    answers = Answers(exchange("timeout"))
    with pytest.raises(CheckFailed, match="not one of 15 requests for one token was answered; the last: HTTP 504"):
        model_ready.model_available(a_trial(server, answers), wanted(server, 2))
    assert answers.limits == [60, 60, 45, 30, 30, 20, 20, 15, 15, 15, 10, 10, 10, 10, 10]


@pytest.mark.parametrize("known", [1, 4])
def test_discovery_has_to_know_as_many_as_were_deployed(server: FakeServer, known: int) -> None:
    """Dead ones of another deployment would get requests too."""
    with pytest.raises(CheckFailed, match=f"discovery knows {known} instances after .* and 2 were deployed"):
        model_ready.model_available(a_trial(server, Answers(exchange("completion"))), wanted(server, known))


@pytest.mark.parametrize("models", [{"object": "list", "data": []}, "nothing"])
def test_the_model_has_to_be_listed(server: FakeServer, models: Any) -> None:
    server.answers["/v1/models"] = Answer(body=models)
    with pytest.raises(CheckFailed, match=r"Qwen/Qwen3-8B is not listed after .* with 2 instances: HTTP 200"):
        model_ready.model_available(a_trial(server, Answers(exchange("completion"))), wanted(server, 2))


@pytest.mark.parametrize("step", ["discovery", "list", "answer"])
def test_a_service_that_dies_ends_the_waiting_with_its_last_words(server: FakeServer, step: str) -> None:
    class Dying(Living):
        """Nodes on which the frontend ends once a step has been reached."""

        def probe(self, *_asked: Any, **_question: Any) -> dict[str, dict[str, Any]]:
            return {"one": {}}

    nodes = Dying({})

    def end() -> None:
        nodes.dead.add("frontend")

    class Last(Answers):
        def __call__(self, *asked: Any) -> Exchange:
            end()
            return super().__call__(*asked)

    asking = wanted(server, 2)
    if step == "discovery":
        end()
    elif step == "list":
        server.answers["/v1/models"] = lambda _request: end() or Answer(body={"data": []})  # type: ignore[func-returns-value]
    trial = a_trial(server, Last(exchange("timeout")), nodes)
    with pytest.raises(CheckFailed) as raised:
        model_ready.model_available(trial, asking)
    assert "service frontend on one (pid 100) has ended since it was ready" in str(raised.value)
    assert "last words of frontend" in str(raised.value)
