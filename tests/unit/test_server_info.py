"""What servers say of how they run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyharness import exercise
from pyharness.exercise import Exchange
from pyharness.verification import server_info
from pyharness.verification.base import CheckFailed
from tests.unit.builders import FakeNodes, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

WANTED = {"prefill": {"tp_size": 1}, "decode": {"tp_size": 2, "language_only": False}}


def answering(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Let prefill (port 30001 of the first address) and decode say what they are told to."""

    def get(url: str, _timeout: float) -> Exchange:
        said = settings["prefill" if "127.0.0.41" in url else "decode"]
        body = said if isinstance(said, str) else json.dumps(said)
        return Exchange("GET", url, None, 200, {}, body, None, 0.1)

    monkeypatch.setattr(exercise, "get", get)


def test_servers_that_run_as_they_were_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, prefill={"tp_size": 1, "more": 1}, decode={"tp_size": 2, "language_only": False})
    evidence = server_info.as_deployed(make_trial(FakeNodes({})), WANTED)
    assert evidence == {"prefill": {"tp_size": 1}, "decode": {"tp_size": 2, "language_only": False}}


def test_a_setting_that_was_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, prefill={"tp_size": 1}, decode={"tp_size": 1, "language_only": False})
    with pytest.raises(CheckFailed, match="decode on two runs with tp_size 1, and 2 was asked for") as caught:
        server_info.as_deployed(make_trial(FakeNodes({})), WANTED)
    assert (caught.value.class_, caught.value.spoils_judgement) == ("configuration", True)


def test_a_setting_that_is_not_told_is_not_taken_for_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, prefill={"tp_size": 1}, decode={"tp_size": 2})
    with pytest.raises(CheckFailed, match="language_only None, and False was asked for"):
        server_info.as_deployed(make_trial(FakeNodes({})), WANTED)


@pytest.mark.parametrize("body", ["", "[1]", "<html>"])
def test_a_server_that_does_not_say(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    answering(monkeypatch, prefill=body, decode={})
    with pytest.raises(CheckFailed, match="prefill on one does not say how it runs"):
        server_info.as_deployed(make_trial(FakeNodes({})), WANTED)
