"""Encoder, prefill and decode apart, with one thing wrong at a time, on real engines. Every night."""

from __future__ import annotations

import base64
import copy
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import exercise
from pyharness.pictures import cat

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.exercise import Exchange
    from pyharness.results import Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.sglang]
requires = "sglang"

CASE = "test_epd_sglang"
ZMQ = ("zmq",)


def checks(report: Report) -> dict[str, str]:
    return {check.id: check.status for check in report.models[0].checks}


def tamper(monkeypatch: pytest.MonkeyPatch, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the message with the picture on its way to the router; the reference gets it as it is."""
    post = exercise.post

    def wrong(url: str, body: dict[str, Any], timeout: float, **options: Any) -> Exchange:
        body = copy.deepcopy(body)
        content = body["messages"][0]["content"]
        if ":8000/" in url and isinstance(content, list):
            change(content)
        return post(url, body, timeout, **options)

    monkeypatch.setattr(exercise, "post", wrong)


def test_what_the_encoder_made_travels_to_prefill(real_site: Site) -> None:
    report = real_site.run(CASE, variants=ZMQ)

    assert report.verdict == "pass", report.failures
    moved = next(check for check in report.models[0].checks if check.id == "embedding_moved")
    assert moved.evidence["bytes_needed"] == 144 * 128 * 4
    assert moved.evidence["tcp_bytes"] >= 144 * 128 * 4


def test_mooncake_between_encoder_and_prefill_is_refused_on_a_cpu(real_site: Site) -> None:
    report = real_site.run(CASE, variants=("mooncake",))

    assert report.verdict == "error"
    assert report.models[0].expected is not None
    assert report.models[0].expected.kind == "unsupported"
    assert "Torch not compiled with CUDA enabled" in report.models[0].expected.evidence


@pytest.mark.parametrize(("after", "check"), [("exercise", "encoder_ready"), ("router_ready", "answer_correct")])
def test_the_encoder_is_killed(real_site: Site, after: str, check: str) -> None:
    killed: list[int] = []

    def tell(text: str) -> None:
        if after in text and not killed:
            for found in real_site.processes("encoder"):
                os.kill(found["pid"], signal.SIGKILL)
                killed.append(found["pid"])

    report = real_site.run(CASE, variants=ZMQ, tell=tell)

    assert killed
    assert report.verdict == "fail"
    assert (report.failures[0].check, report.failures[0].class_) == (check, "product")
    assert "service encoder on decode" in report.failures[0].evidence


def test_prefill_sees_for_itself_and_nobody_asks_the_encoder(real_site: Site) -> None:
    """The text would be right: only what the server says of itself tells."""
    alone = [{"mode": "prefill", "port": 30001, "gpu": 0, "encoders": [], "log": "local"}]
    report = real_site.run(CASE, variants=ZMQ, extra_vars={"disagg_on_prefill": alone})

    assert report.verdict == "error"
    assert [failure.check for failure in report.failures] == ["encoder_apart"]
    assert "prefill on prefill runs with language_only False, and True was asked for" in report.failures[0].evidence


def test_another_picture_gives_another_answer(real_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sky = cat.Canvas([[cat.SKY] * (cat.SIZE * cat.FINE) for _ in range(cat.SIZE * cat.FINE)]).png()

    def paint_over(content: list[dict[str, Any]]) -> None:
        content[0]["image_url"]["url"] = "data:image/png;base64," + base64.b64encode(sky).decode()

    tamper(monkeypatch, paint_over)
    report = real_site.run(CASE, variants=ZMQ)

    assert report.verdict == "fail"
    assert [failure.check for failure in report.failures] == ["answer_correct"]
    assert checks(report)["embedding_moved"] == "pass"


def test_the_picture_gets_lost(real_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda content: content.__delitem__(0))
    report = real_site.run(CASE, variants=ZMQ)

    assert report.verdict == "fail"
    assert {failure.check for failure in report.failures} == {"answer_correct", "embedding_moved"}
    assert "the encoder encoded 0 pictures" in report.failures[-1].evidence
