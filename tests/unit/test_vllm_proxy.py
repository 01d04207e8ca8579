"""The proxy of role vllm_proxy: what each server is told, and what a client gets when one of them goes wrong."""

from __future__ import annotations

import http.client
import importlib
import json
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pyharness import paths
from tests.unit.vllm_doubles import ENGINE_ID, ONE_TOKEN, WHOLE, Engine, Request, answers, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.vllm]

FILES = paths.COLLECTION / "roles" / "vllm_proxy" / "files"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED = {"prompt": "What is", "temperature": 0, "max_tokens": 16}
NOBODY = "http://127.0.0.1:9"  # "discard" (RFC 863): nobody serves it
SECONDS = 10.0
PREFILLED, DECODED = answers(200, ONE_TOKEN), answers(200, WHOLE)


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    """Return the proxy's module, which finds its other half beside it as it does on a node."""
    sys.path.insert(0, str(FILES))
    yield importlib.import_module("pd_proxy")
    sys.path.remove(str(FILES))


@dataclass
class Pair:
    """A proxy with its two engines."""

    url: str
    prefill: Engine
    decode: Engine

    def post(self, body: Any, path: str = COMPLETIONS) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=SECONDS)


@pytest.fixture
def pair(program: Any) -> Iterator[Callable[..., Pair]]:
    """Return what makes a proxy in front of engines that do what a test says; those in `gone` are not there."""
    running = []

    def make(
        prefill: Callable[[Request], None] = PREFILLED,
        decode: Callable[[Request], None] = DECODED,
        gone: tuple[str, ...] = (),
        **changes: Any,
    ) -> Pair:
        first, second = Engine(prefill), Engine(decode)
        given = {"prefill": first.url, "bootstrap": first.url, "decode": second.url, "seconds": SECONDS}
        given |= dict.fromkeys(gone, NOBODY) | changes
        proxy = program.Proxy(("127.0.0.1", 0), program.Servers(**given))
        context = serving(first, second, proxy)
        context.__enter__()
        running.append(context)
        return Pair(f"http://127.0.0.1:{proxy.server_address[1]}", first, second)

    yield make
    for context in running:
        context.__exit__(None, None, None)


def once_both_are_asked(*handlers: Callable[[Request], None]) -> Iterator[Callable[[Request], None]]:
    """Yield what does the same, but not before all of the servers have been asked."""
    everyone = threading.Barrier(len(handlers))

    def waiting(handler: Callable[[Request], None]) -> Callable[[Request], None]:
        def handle(request: Request) -> None:
            everyone.wait(SECONDS)
            handler(request)

        return handle

    yield from (waiting(handler) for handler in handlers)


def message(answer: requests.Response) -> str:
    return str(answer.json()["error"]["message"])


# ---------------------------------------------------------------- what goes to whom


def test_both_servers_are_told_of_one_transfer(pair: Callable[..., Pair]) -> None:
    made = pair()
    answer = made.post(ASKED)
    assert (answer.status_code, answer.json()) == (200, WHOLE)
    (first,), (second,) = made.prefill.asked, made.decode.asked
    there, here = first.pop("kv_transfer_params"), second.pop("kv_transfer_params")
    assert there["transfer_id"] == here["transfer_id"]
    assert (there["do_remote_decode"], there["do_remote_prefill"]) == (True, False)
    assert (here["do_remote_decode"], here["do_remote_prefill"]) == (False, True)
    assert (here["remote_engine_id"], here["remote_bootstrap_addr"]) == (ENGINE_ID, made.prefill.url)
    assert second == ASKED


def test_two_requests_are_two_transfers(pair: Callable[..., Pair]) -> None:
    made = pair()
    made.post(ASKED)
    made.post(ASKED)
    first, second = (body["kv_transfer_params"]["transfer_id"] for body in made.decode.asked)
    assert first != second


def test_prefill_is_asked_for_one_token_that_nothing_ends_early(pair: Callable[..., Pair]) -> None:
    made = pair()
    asked = {
        "messages": [],
        "max_completion_tokens": 9,
        "min_tokens": 3,
        "stop": ["."],
        "stream_options": {},
        "top_p": 1,
    }
    made.post(asked, CHAT)
    (body,) = made.prefill.asked
    del body["kv_transfer_params"]
    one = {"max_tokens": 1, "max_completion_tokens": 1, "stream": False, "ignore_eos": True}
    assert body == {"messages": [], "top_p": 1, **one}


def test_told_to_forget_it_has_nothing_transferred(pair: Callable[..., Pair]) -> None:
    made = pair(misbehave=("forget-kv-transfer",))
    assert made.post(ASKED).json() == WHOLE
    assert not any("kv_transfer_params" in body for body in made.prefill.asked + made.decode.asked)
    assert len(made.prefill.asked) == 1


def test_models_are_decodes(pair: Callable[..., Pair]) -> None:
    made = pair()
    made.prefill.doors["/v1/models"] = (200, {"data": []})
    assert requests.get(f"{made.url}/v1/models", timeout=SECONDS).json() == {"data": [{"id": "org/model"}]}


# ---------------------------------------------------------------- health


def test_it_is_healthy_with_both_servers_and_prefills_engine(pair: Callable[..., Pair]) -> None:
    answer = requests.get(f"{pair().url}/health", timeout=SECONDS)
    assert (answer.status_code, answer.json()) == (200, {"problems": []})


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("prefill", f"prefill {NOBODY}/health: ConnectionRefusedError"),
        ("decode", f"decode {NOBODY}/health: ConnectionRefusedError"),
        ("bootstrap", f"prefill's bootstrap server {NOBODY}/query: ConnectionRefusedError"),
    ],
)
def test_it_is_not_healthy_without_one_of_them(pair: Callable[..., Pair], gone: str, said: str) -> None:
    answer = requests.get(f"{pair(gone=(gone,)).url}/health", timeout=SECONDS)
    assert answer.status_code == 503
    (problem,) = answer.json()["problems"]
    assert problem.startswith(said)


def test_it_is_not_healthy_before_prefill_has_registered(pair: Callable[..., Pair]) -> None:
    made = pair()
    made.prefill.doors["/query"] = (200, {})
    made.decode.doors["/health"] = (503, {})
    problems = requests.get(f"{made.url}/health", timeout=SECONDS).json()["problems"]
    assert problems == [
        f"decode {made.decode.url}/health: HTTP 503",
        f"prefill's bootstrap server {made.prefill.url}/query names no engine: HTTP 200: {{}}",
    ]


# ---------------------------------------------------------------- requests that are none


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([1], "has to be a JSON object"),
        ({"prompt": ["a", "b"]}, "prompt has 2 entries"),
        ({"prompt": [[1], [2]]}, "prompt has 2 entries"),
        ({"prompt": []}, None),
        ({"prompt": "a", "n": 2}, "n is 2"),
        ({"prompt": "a", "best_of": 3}, "best_of is 3"),
    ],
)
def test_what_is_not_one_request_is_refused(pair: Callable[..., Pair], body: Any, said: str | None) -> None:
    made = pair()
    answer = made.post(body)
    if said is None:  # what an empty prompt is, the engines know
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert said in message(answer)
    assert not made.prefill.asked + made.decode.asked


@pytest.mark.parametrize("body", [{"prompt": [1, 2, 3]}, {"prompt": ["a"]}, {"prompt": "a", "n": 1, "best_of": None}])
def test_one_prompt_in_another_form_is_one_request(pair: Callable[..., Pair], body: Any) -> None:
    assert pair().post(body).status_code == 200


def test_what_is_no_json_is_refused(pair: Callable[..., Pair]) -> None:
    answer = requests.post(pair().url + CHAT, data=b"{", timeout=SECONDS)
    assert answer.status_code == 400
    assert "the body is no JSON" in message(answer)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_are_no_other_doors(pair: Callable[..., Pair], method: str) -> None:
    answer = requests.request(method, f"{pair().url}/v1/embeddings", json={}, timeout=SECONDS)
    assert answer.status_code == 404


def test_a_body_of_unknown_length_is_refused(pair: Callable[..., Pair]) -> None:
    answer = requests.post(pair().url + CHAT, data=iter([b"{}"]), timeout=SECONDS)
    assert answer.status_code == 411


# ---------------------------------------------------------------- servers that fail


@pytest.mark.parametrize("server", ["prefill", "decode"])
def test_a_servers_error_is_not_the_proxys_success(pair: Callable[..., Pair], server: str) -> None:
    made = pair(**{server: answers(500, {"error": "boom"})})
    answer = made.post(ASKED)
    assert answer.status_code == 502
    assert message(answer).startswith(f"{server} {getattr(made, server).url}{COMPLETIONS}: HTTP 500: ")
    assert "boom" in message(answer)


@pytest.mark.parametrize("server", ["prefill", "decode"])
def test_a_servers_refusal_is_passed_on(pair: Callable[..., Pair], server: str) -> None:
    words = {"error": {"message": "the prompt is too long"}}
    answer = pair(**{server: answers(400, words)}).post(ASKED)
    assert (answer.status_code, answer.json()) == (400, words)


@pytest.mark.parametrize("server", ["prefill", "decode"])
def test_a_server_that_is_gone_is_named(pair: Callable[..., Pair], server: str) -> None:
    answer = pair(gone=(server,)).post(ASKED)
    assert answer.status_code == 502
    assert message(answer).startswith(f"{server} {NOBODY}{COMPLETIONS}: ConnectionRefusedError")


def test_a_prefill_that_is_not_registered_is_named(pair: Callable[..., Pair]) -> None:
    made = pair(gone=("bootstrap",))
    answer = made.post(ASKED)
    assert answer.status_code == 503
    assert message(answer).startswith("prefill's bootstrap server")
    assert not made.decode.asked


@pytest.mark.parametrize("document", [{"choices": [{"finish_reason": "stop"}]}, {"error": {"message": "x"}}, [], 1])
def test_a_prefill_that_did_not_keep_the_kv_cache_is_named(pair: Callable[..., Pair], document: Any) -> None:
    prefill, decode = once_both_are_asked(answers(200, document), Request.until_dropped)
    made = pair(prefill, decode)
    answer = made.post(ASKED)
    assert answer.status_code == 502
    assert "it did not prefill" in message(answer)
    assert made.decode.dropped.wait(SECONDS), "decode would wait for it"


@pytest.mark.parametrize(("server", "other"), [("prefill", "decode"), ("decode", "prefill")])
def test_when_one_server_fails_the_others_request_is_dropped(
    pair: Callable[..., Pair], server: str, other: str
) -> None:
    failing, waiting = once_both_are_asked(answers(500, {}), Request.until_dropped)
    made = pair(**{server: failing, other: waiting})
    assert made.post(ASKED).status_code == 502
    assert getattr(made, other).dropped.wait(SECONDS)


@pytest.mark.parametrize("server", ["prefill", "decode"])
def test_a_server_that_says_nothing_is_named_in_time(pair: Callable[..., Pair], server: str) -> None:
    answer = pair(**{server: Request.until_dropped}, seconds=0.3).post(ASKED)
    assert answer.status_code == 504
    assert message(answer).startswith(server)
    assert "said nothing for 0.3 s" in message(answer)


def cut(request: Request) -> None:
    """Answer less than was said."""
    request.send_response(200)
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(b"{")
    request.close_connection = True


@pytest.mark.parametrize("server", ["prefill", "decode"])
def test_an_answer_that_is_cut_is_none(pair: Callable[..., Pair], server: str) -> None:
    answer = pair(**{server: cut}).post(ASKED)
    assert answer.status_code == 502
    assert "IncompleteRead" in message(answer)


# ---------------------------------------------------------------- streams


def streamed(url: str) -> http.client.HTTPResponse:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
    connection.request("POST", CHAT, json.dumps({"messages": [], "stream": True}), {"Content-Type": "application/json"})
    return connection.getresponse()


def test_a_stream_passes_through_as_it_comes(pair: Callable[..., Pair]) -> None:
    go_on = threading.Event()

    def stream(request: Request) -> None:
        request.begin_stream()
        request.event("one")
        assert go_on.wait(SECONDS)
        request.event("[DONE]")
        request.event("")

    answer = streamed(pair(decode=stream).url)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.readline() == b"data: one\n"
    go_on.set()
    assert answer.read() == b"\ndata: [DONE]\n\n"


def test_a_stream_does_not_begin_before_prefill_is_done(pair: Callable[..., Pair]) -> None:
    def stream(request: Request) -> None:
        request.begin_stream()
        request.until_dropped()

    answer = streamed(pair(prefill=answers(500, {}), decode=stream).url)
    assert answer.status == 502


def test_a_stream_that_breaks_does_not_end_well(pair: Callable[..., Pair]) -> None:
    go_on = threading.Event()

    def stream(request: Request) -> None:
        request.begin_stream()
        request.event("one")
        assert go_on.wait(SECONDS)
        request.close_connection = True

    answer = streamed(pair(decode=stream).url)
    assert answer.readline() == b"data: one\n"
    go_on.set()
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    event = caught.value.partial.decode().strip()
    assert json.loads(event.removeprefix("data: "))["error"]["message"].startswith("decode http://")


@pytest.mark.parametrize("when", ["before", "in"])
def test_when_the_client_leaves_the_servers_requests_are_dropped(pair: Callable[..., Pair], when: str) -> None:
    def stream(request: Request) -> None:
        request.begin_stream()
        request.event("one")
        request.until_dropped()

    prefill, decode = once_both_are_asked(Request.until_dropped, Request.until_dropped)
    made = pair(decode=stream) if when == "in" else pair(prefill, decode)
    host, _, port = made.url.removeprefix("http://").partition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
    client.request("POST", CHAT, json.dumps({"messages": [], "stream": True}), {"Content-Type": "application/json"})
    if when == "in":
        answer = client.getresponse()
        assert answer.readline() == b"data: one\n"
        answer.close()
    else:
        assert made.decode.arrived.wait(SECONDS)
        assert made.prefill.arrived.wait(SECONDS)
    client.close()
    assert made.decode.dropped.wait(SECONDS)
    assert when == "in" or made.prefill.dropped.wait(SECONDS)
