"""Dynamo's OpenAI surface: what is right in recorded answers, and what the checks say of each fault in them."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import counting, errors, metrics, surface
from pyharness.verification.dynamo.asking import CHAT, COMPLETIONS
from pyharness.verification.dynamo.counting import Counts, Ledger
from pyharness.verification.dynamo.surface import Expected
from tests.unit import dynamo_recorded as recorded
from tests.unit.dynamo_recorded import MODEL, RECORDED, answering, document, events_of, exchange, service, stream
from tests.unit.fake_http import Answer, serving

if TYPE_CHECKING:
    from pyharness.streamed import Streamed
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.dynamo]

ASKED = {CHAT: Expected(CHAT, MODEL, None, 4), COMPLETIONS: Expected(COMPLETIONS, MODEL, 40, 4)}


def failure(check: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(CheckFailed) as raised:
        check(*arguments, **options)
    assert raised.value.class_ == "product"
    assert raised.value.hint
    return str(raised.value)


def test_the_recorded_surface_is_right() -> None:
    assert surface.models_listed(exchange("models"), MODEL)["models"] == [MODEL]
    assert surface.answer_well_formed(exchange("chat"), ASKED[CHAT])["usage"]["completion_tokens"] == 4
    assert surface.answer_well_formed(exchange("completion"), ASKED[COMPLETIONS])["usage"]["prompt_tokens"] == 40
    for name, path in (("chat", CHAT), ("completion", COMPLETIONS)):
        assert surface.stream_well_formed(stream(name), ASKED[path], usage_asked=False)["chunks_with_text"] == 4
        told = surface.stream_well_formed(stream(f"{name}_counts"), ASKED[path], usage_asked=True)
        assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + 4
    same = surface.same_text(exchange("replayed"), stream("replayed"), ASKED[COMPLETIONS])
    assert same["chunks_with_text"] == 8


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"object": "list", "data": []}),
        (200, {"object": "list", "data": [{"id": "other", "object": "model", "created": 1, "owned_by": "x"}]}),
        (200, {"object": "list", "data": [{"id": MODEL, "object": "thing", "created": 1, "owned_by": "x"}]}),
        (500, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "x"}]}),
        (200, "no list"),
    ],
)
def test_models_that_are_not_the_deployed_one(status: int, body: Any) -> None:
    assert "/v1/models: HTTP" in failure(surface.models_listed, answering(body, status), MODEL)


def changed(name: str, change: Any) -> dict[str, Any]:
    found: dict[str, Any] = document(name)
    change(found)
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: said.update(object="chat.completion.chunk"), "object is 'chat.completion.chunk'"),
        (lambda said: said.update(model="other"), "model is 'other'"),
        (lambda said: said.update(id=""), "id or created is missing"),
        (lambda said: said["choices"][0]["message"].update(content=" "), "the text is ' '"),
        (lambda said: said["choices"][0]["message"].update(role="user"), "the role is 'user'"),
        (lambda said: said["choices"][0].update(finish_reason="stop"), "finish_reason is 'stop'"),
        (lambda said: said["usage"].update(completion_tokens=3), "usage says"),
        (lambda said: said["usage"].update(total_tokens=0), "usage says"),
        (lambda said: said.update(choices=[]), "it has no choice with a text"),
        (lambda said: said.pop("usage"), "or no usage"),
    ],
)
def test_an_answer_with_one_fault(change: Any, told: str) -> None:
    said = failure(surface.answer_well_formed, answering(changed("chat", change)), ASKED[CHAT])
    assert told in said


def test_an_answer_whose_prompt_was_counted_wrongly() -> None:
    asked = Expected(COMPLETIONS, MODEL, 39, 4)
    assert "40 + 4 = 44" in failure(surface.answer_well_formed, exchange("completion"), asked)


def faulty(name: str, change: Any, **more: Any) -> Streamed:
    events = events_of(name)
    return stream(name, change(events) or events, **more)


def swapped(events: list[str], place: int, **values: Any) -> None:
    events[place] = json.dumps({**json.loads(events[place]), **values})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda events: events.pop(), "[DONE] does not come once and last"),
        (lambda events: events.append("[DONE]"), "[DONE] does not come once and last"),
        (lambda events: events.insert(2, events.pop(4)), "belongs in the last one"),
        (lambda events: events.pop(4), "finish_reason None stands in 0 chunks"),
        (lambda events: events.pop(2), "3 chunks have text, and 4 tokens"),
        (lambda events: swapped(events, 1, id="other"), "not all one id"),
        (lambda events: swapped(events, 1, object="chat.completion"), "objects are"),
        (lambda events: events.insert(1, events[0]), "the role does not come once"),
        (lambda events: swapped(events, 1, usage={"prompt_tokens": 1}), "counts that were not asked for"),
    ],
)
def test_a_stream_with_one_fault(change: Any, told: str) -> None:
    def apply(events: list[str]) -> None:
        change(events)

    said = failure(surface.stream_well_formed, faulty("chat", apply), ASKED[CHAT], usage_asked=False)
    assert told in said


def test_a_stream_that_breaks_off_or_counts_wrongly() -> None:
    broken = stream("chat", ending="truncated", problem="connection broke")
    assert "it ended as truncated" in failure(surface.stream_well_formed, broken, ASKED[CHAT], usage_asked=False)
    assert "usage says" in failure(surface.stream_well_formed, stream("chat"), ASKED[CHAT], usage_asked=True)
    late = faulty("chat_counts", lambda events: events.insert(0, events.pop(5)))
    assert "chunk of their own" in failure(surface.stream_well_formed, late, ASKED[CHAT], usage_asked=True)


def test_streamed_otherwise_than_at_once() -> None:
    other = faulty("replayed", lambda events: events.pop(3) and None)
    assert "streams" in failure(surface.same_text, exchange("replayed"), other, ASKED[COMPLETIONS])
    empty = answering({"choices": [{"text": ""}]})
    assert "answers ''" in failure(surface.same_text, empty, stream("replayed", []), ASKED[COMPLETIONS])


def refusals() -> list[tuple[errors.Wrong, Any]]:
    wrong = errors.wrong_requests(MODEL)
    return list(zip(wrong, [recorded.made(entry) for _name, entry in RECORDED["exchanges"]["wrong"]], strict=True))


def test_every_recorded_refusal_is_told_and_counted() -> None:
    told = errors.errors_told(refusals())
    assert told["statuses"] == {400: 13, 404: 4, 415: 1}
    sent = Ledger()
    errors.note(refusals(), sent)
    assert sent.requests[counting.key(CHAT, streamed=True, error="not_found")] == 1
    assert sent.requests[counting.key(CHAT, streamed=False, error="validation")] == 3
    assert sent.requests.total() == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"choices": []}),
        (500, {"message": "no", "type": "x", "code": 500}),
        (404, {"message": "", "type": "x", "code": 404}),
        (404, {"message": "no", "type": "x", "code": 500}),
        (404, "not an object"),
        (404, {"detail": "Not Found"}),
    ],
)
def test_a_refusal_that_does_not_tell(status: int, body: Any) -> None:
    assert "HTTP 404 with an error object" in failure(surface.error_told, "x", answering(body, status), 404)


def test_an_error_below_error_is_told_as_well_as_a_flat_one() -> None:
    below = answering({"error": {"message": "no", "type": "x", "code": 404}}, 404)
    assert surface.error_told("x", below, 404)["message"] == "no"
    assert surface.errors_wrapped([below]) == {"errors": 1, "flat": 0}
    told = failure(surface.errors_wrapped, [below, *(exchange for _wrong, exchange in refusals())])
    assert told.startswith("18 of 19 errors are not below `error`, the first: {")


def test_a_prompt_that_is_too_long_is_the_callers_error() -> None:
    told = failure(surface.overlong_refused, exchange("overlong"), stream("overlong"), 8001, 8000)
    assert "is told HTTP 500, and 500 where it is streamed" in told
    right = stream("overlong", [json.dumps({"error": {"message": "too long", "code": 400}}), "[DONE]"])
    assert surface.overlong_refused(answering({"error": {}}, 400), right, 8001, 8000)["room"] == 8000
    at_once = stream("overlong", [], status=400, ending="refused", body='{"message": "too long"}')
    assert surface.overlong_refused(answering({"error": {}}, 400), at_once, 8001, 8000)


def test_an_error_in_a_stream() -> None:
    assert surface.error_event_told("late", stream("timeout"), 504)["error"]["type"] == "timeout_error"
    assert "code 504 in an error event" in failure(surface.error_event_told, "late", stream("chat"), 504)
    cut = stream("timeout", ending="truncated", problem="connection broke")
    assert "ended as truncated" in failure(surface.error_event_told, "late", cut, 504)


# -- what is counted

WORKERS = ("worker_1", "worker_2")


def counted(trial: Trial, **services: str) -> Counts:
    del trial
    texts = {"frontend": RECORDED["frontend_metrics"], **{name: RECORDED[f"{name}_metrics"] for name in WORKERS}}
    texts |= services
    return Counts(metrics.parse(texts.pop("frontend")), {name: metrics.parse(text) for name, text in texts.items()})


def nothing() -> Counts:
    return Counts(metrics.parse(""), {})


def a_trial(url: str = "http://127.0.0.1:9") -> Trial:
    workers = [service(name, "worker", url) for name in WORKERS]
    return recorded.trial("test_dynamo_serve", [service("frontend", "frontend", url), *workers])


def sent_so_far(monkeypatch: pytest.MonkeyPatch, **services: str) -> tuple[Trial, Ledger]:
    """Return a trial whose counts are the recorded ones, and the ledger that fits to them."""
    monkeypatch.setattr(counting, "read", lambda trial: counted(trial, **services))
    monkeypatch.setattr(counting, "_LATE_SECONDS", 0.0)
    now = counted(a_trial())
    fits = Ledger(Counter(now.requests), now.tokens("input"), now.tokens("output"), sum(now.taken.values()))
    return a_trial(), fits


def test_what_was_sent_is_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, sent = sent_so_far(monkeypatch)
    told = counting.requests_counted(trial, nothing(), sent)
    assert told["counted"]["requests"] == told["sent"]["requests"]
    assert told["counted"]["requests"]["completions stream error internal"] == 2
    assert sum(told["counted"]["by_worker"].values()) == sent.to_workers > 10


@pytest.mark.parametrize("which", ["requests", "prompt_tokens", "answer_tokens", "to_workers"])
def test_a_request_that_was_not_counted(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    trial, sent = sent_so_far(monkeypatch)
    if which == "requests":
        sent.requests[counting.key(CHAT, streamed=False)] += 1
    else:
        setattr(sent, which, getattr(sent, which) + 1)
    assert "metrics count" in failure(counting.requests_counted, trial, nothing(), sent)


def test_metrics_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker say the same for ever."""
    trial, sent = sent_so_far(monkeypatch, worker_1=RECORDED["worker_1_metrics"].replace('"generate"', '"nobody"'))
    assert "to_workers" in failure(counting.requests_counted, trial, nothing(), sent)


def test_nothing_is_compared_with_what_is_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_LATE_SECONDS", 0.0)
    looks = [nothing(), counted(a_trial()), counted(a_trial()), counted(a_trial())]
    monkeypatch.setattr(counting, "read", lambda _trial: looks.pop(0))
    assert "s after the last answer the frontend has 0 requests" in failure(counting.at_rest, a_trial())
    assert counting.at_rest(a_trial()).requests.total() > 10
    busy = RECORDED["frontend_metrics"] + 'dynamo_frontend_inflight_requests{model="x"} 1\n'
    looks += [counted(a_trial(), frontend=busy)] * 2
    assert "the frontend has 1 requests under way" in failure(counting.at_rest, a_trial())


def test_metrics_that_are_not_there() -> None:
    trial = a_trial()
    assert counting.metrics_present(counted(trial))["frontend"] == len(counting.FRONTEND)
    without = RECORDED["frontend_metrics"].replace("dynamo_frontend_time_to_first", "dynamo_frontend_ttf")
    told = failure(counting.metrics_present, counted(trial, frontend=without))
    assert told == "frontend has no dynamo_frontend_time_to_first_token_seconds_count"
    assert "worker_2 has no" in failure(counting.metrics_present, counted(trial, worker_2=""))


def test_timeouts_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_LATE_SECONDS", 0.0)
    with serving("127.0.0.41") as server:
        server.answers["/metrics"] = Answer(body=RECORDED["frontend_metrics"].encode())
        trial = a_trial(server.url)
        told = failure(errors.timeouts_counted, trial, nothing())
        assert "completions stream error internal" in told
        renamed = RECORDED["frontend_metrics"].replace('error_type="internal"', 'error_type="response_timeout"')
        only = "\n".join(line for line in renamed.splitlines() if "_timeout" in line).replace("} 2", "} 1") + "\n"
        server.answers["/metrics"] = Answer(body=only.encode())
        assert errors.timeouts_counted(trial, nothing())["counted"] == {
            "completions stream error response_timeout": 1,
            "completions unary error response_timeout": 1,
        }


def test_a_deadline_that_is_kept_and_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun:
        def result(self) -> Streamed:
            return stream("timeout")

    def asked(seconds: float, name: str = "timeout") -> Trial:
        trial = recorded.trial(
            "test_dynamo_serve",
            [service("frontend", "frontend", "http://127.0.0.1:9")],
            send=lambda *_asked: exchange(name, seconds=seconds),
            stream=lambda *_asked, **_more: Begun(),
        )
        monkeypatch.setitem(trial.workload, "deadline_seconds", 2)
        return trial

    assert errors.timeout_told(asked(2.02))["unstreamed"]["status"] == 504
    assert "504 came after 9.00 s (unstreamed)" in failure(errors.timeout_told, asked(9.0))
    assert "504 came after 0.10 s" in failure(errors.timeout_told, asked(0.1))
    assert "HTTP 504 with an error object" in failure(errors.timeout_told, asked(2.02, "completion"))


def test_a_client_that_goes_takes_its_request_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_CANCEL_SECONDS", 0.0)
    gone = RECORDED["frontend_metrics"] + "dynamo_frontend_disconnected_clients 1\n"
    cancelled = RECORDED["worker_1_metrics"] + (
        'dynamo_component_cancellation_total{dynamo_endpoint="generate",worker_id="1"} 1\n'
    )

    def judged(status: int | None = None, **services: str) -> dict[str, Any]:
        monkeypatch.setattr(counting, "read", lambda trial: counted(trial, **services))
        late = exchange("completion", status=status, body=None, problem=None if status else "no answer within 1 s")
        trial = recorded.trial(
            "test_dynamo_serve",
            [service("frontend", "frontend", "http://127.0.0.1:9")],
            send=lambda *_asked: late,
        )
        return errors.gone_client_cancels(trial, counted(trial))

    assert judged(frontend=gone, worker_1=cancelled)["newly_cancelled"] == 1
    assert "have cancelled 0 requests more" in failure(judged, frontend=gone)
    assert "frontend counts 0 clients" in failure(judged, worker_1=cancelled)
    with pytest.raises(CheckFailed) as raised:
        judged(200)
    assert raised.value.class_ == "test"


def test_wrong_requests_are_sent_as_they_are() -> None:
    with serving("127.0.0.41") as server:
        server.answers["/v1/completions"] = Answer(400, {"message": "no", "type": "Bad Request", "code": 400})
        found = next(one for one in errors.wrong_requests(MODEL) if one.name == "no JSON")
        told = errors.post(server.url, found)
        assert surface.error_told(found.name, told, 400)["code"] == "400"
        (asked,) = server.asked("/completions")
        assert asked.body == b"Hello"
    assert errors.post("http://127.0.0.41:9", found).problem


def test_a_service_without_metrics() -> None:
    with serving("127.0.0.41") as server:
        server.answers["/metrics"] = Answer(body=b"{")
        assert "gives no metrics" in failure(metrics.read, service("worker-1", "worker", server.url))
        assert "gives no metrics: HTTP 404" in failure(metrics.read, service("worker-1", "worker", f"{server.url}/no"))
