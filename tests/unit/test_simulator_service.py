"""The endpoints of one engine, well-behaved and not."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyharness.simulator import VERSION
from pyharness.simulator.engines import SingleEngine
from pyharness.simulator.metrics import Metrics
from pyharness.simulator.misbehaviour import parse
from pyharness.simulator.model import Model, write_model
from pyharness.simulator.protocol import CHAT, COMPLETIONS, GENERATE
from pyharness.simulator.replies import Reply
from pyharness.simulator.service import OTHER_MODEL, Identity, Service

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

BODY = {
    "text": "hello",
    "prompt": "hello",
    "messages": [{"role": "user", "content": "hello"}],
    "model": "tiny",
}


def make_service(folder: Path, *misbehave: str) -> Service:
    write_model("qwen3", 0, folder)
    model = Model.load(str(folder))
    metrics = Metrics("tiny", "single")
    identity = Identity(model, "tiny", "single", {"port": 8000})
    return Service(identity, SingleEngine(model, metrics), metrics, parse(misbehave, "single"))


def ask(service: Service, path: str = GENERATE, *, stream: bool = False) -> Reply:
    reply = service.infer(path, json.dumps(BODY | {"stream": stream}).encode())
    service.sent()
    return reply


def body_of(reply: Reply) -> dict[str, Any]:
    content = json.loads(b"".join(reply.body))
    assert isinstance(content, dict)
    return content


def test_it_says_that_it_is_a_simulator(tmp_path: Path) -> None:
    service = make_service(tmp_path / "model")
    info = body_of(service.get("/server_info"))
    assert info["simulator"] is True
    assert info["version"] == VERSION
    assert info["disaggregation_mode"] == "null"
    assert info["port"] == 8000
    assert body_of(service.get("/get_server_info")) == info
    assert body_of(service.get("/model_info"))["simulator"] is True


def test_it_names_its_model_as_sglang_does(tmp_path: Path) -> None:
    service = make_service(tmp_path / "model")
    assert body_of(service.get("/v1/models"))["data"][0]["id"] == "tiny"
    info = body_of(service.get("/model_info"))
    assert (info["served_model_name"], info["model_type"]) == ("tiny", "qwen3")
    assert body_of(service.get("/get_model_info")) == info


def test_health_metrics_and_flush(tmp_path: Path) -> None:
    service = make_service(tmp_path / "model")
    assert service.get("/health").status == 200
    assert service.get("/health_generate").status == 200
    assert ask(service).status == 200
    metrics = service.get("/metrics")
    assert metrics.content_type.startswith("text/plain; version=0.0.4")
    assert b'mode="input",model_name="tiny",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 7.0' in metrics.body[0]
    assert body_of(ask(service))["meta_info"]["cached_tokens"] == 4
    assert service.get("/flush_cache").status == 200
    assert body_of(ask(service))["meta_info"]["cached_tokens"] == 0
    assert service.get("/nowhere").status == 404


def test_a_bad_request_is_answered_with_400(tmp_path: Path) -> None:
    reply = make_service(tmp_path / "model").infer(GENERATE, b"{")
    assert reply.status == 400
    assert "not JSON" in body_of(reply)["error"]["message"]


@pytest.mark.parametrize("path", [GENERATE, COMPLETIONS, CHAT])
@pytest.mark.parametrize(
    ("misbehave", "status", "content_type", "content"),
    [
        ("http-500", 500, "application/json", b'"simulated failure"'),
        ("http-500=html", 500, "text/html", b"<h1>500 Internal Server Error</h1>"),
        ("error-object", 200, "application/json", b'{"error": {'),
        ("not-json", 200, "text/html", b"Please sign in"),
    ],
)
def test_wrong_answers(
    tmp_path: Path, path: str, misbehave: str, status: int, content_type: str, content: bytes
) -> None:
    reply = ask(make_service(tmp_path / "model", misbehave), path)
    assert reply.status == status
    assert reply.content_type.startswith(content_type)
    assert content in b"".join(reply.body)


def test_an_error_object_in_a_stream_is_an_event(tmp_path: Path) -> None:
    reply = ask(make_service(tmp_path / "model", "error-object"), stream=True)
    assert reply.streamed
    assert len(reply.body) == 2
    assert "error" in json.loads(reply.body[0].removeprefix(b"data: "))


def test_empty_and_wrong_texts_keep_the_form(tmp_path: Path) -> None:
    right = body_of(ask(make_service(tmp_path / "model")))
    wrong = body_of(ask(make_service(tmp_path / "model", "wrong-text")))
    empty = body_of(ask(make_service(tmp_path / "model", "empty-text")))
    assert right["text"] != wrong["text"]
    assert len(wrong["text"].split()) == len(right["text"].split())
    assert empty["text"] == ""
    assert empty["meta_info"]["completion_tokens"] == 0


def test_garbage_is_no_text(tmp_path: Path) -> None:
    reply = ask(make_service(tmp_path / "model", "garbage-bytes"))
    assert (reply.status, reply.content_type) == (200, "application/json")
    with pytest.raises(UnicodeDecodeError):
        b"".join(reply.body).decode()


def test_a_truncated_answer_is_marked_as_incomplete(tmp_path: Path) -> None:
    assert ask(make_service(tmp_path / "model")).complete
    assert not ask(make_service(tmp_path / "model", "truncated-stream")).complete


def test_errors_begin_after_so_many_good_answers(tmp_path: Path) -> None:
    service = make_service(tmp_path / "model", "error-after=2")
    assert [ask(service).status for _ in range(4)] == [200, 200, 500, 500]


def test_a_wrong_model_is_named_everywhere(tmp_path: Path) -> None:
    service = make_service(tmp_path / "model", "wrong-model")
    assert body_of(ask(service, COMPLETIONS))["model"] == OTHER_MODEL
    for path in ("/v1/models", "/model_info", "/server_info"):
        assert OTHER_MODEL.encode() in service.get(path).body[0]
    assert body_of(service.get("/model_info"))["served_model_name"] == OTHER_MODEL


def test_never_ready_is_503_while_the_rest_is_fine(tmp_path: Path) -> None:
    service = make_service(tmp_path / "model", "never-ready")
    assert service.get("/health").status == 503
    assert service.get("/health_generate").status == 503
    assert service.get("/model_info").status == 200
