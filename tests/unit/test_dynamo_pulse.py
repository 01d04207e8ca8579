"""Requests that are made all the time: what is counted of them, and how many may fail."""

from __future__ import annotations

import pytest

from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import outages
from pyharness.verification.dynamo.pulse import Beat, Pulse, errors_bounded, figures
from tests.unit.builders import FakeNodes, make_deployment, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

GOOD = Beat(1.0, 0.05, None, 11)
BAD = Beat(2.0, 0.01, "HTTP 503: not ready", None)


def test_requests_that_fail_are_counted_with_the_first_words() -> None:
    assert figures([BAD, GOOD]) == {
        "requests": 2,
        "failed": 1,
        "slowest_seconds": 0.05,
        "first_failures": ["HTTP 503: not ready"],
    }


def test_as_many_may_fail_as_are_allowed() -> None:
    assert errors_bounded([GOOD, BAD], 1, "meanwhile")["failed"] == 1
    with pytest.raises(CheckFailed, match="1 of 2 requests failed meanwhile, and 0 may: HTTP 503: not ready") as failed:
        errors_bounded([GOOD, BAD], 0, "meanwhile")
    assert failed.value.class_ == "product"


def test_where_no_request_was_made_nothing_is_judged() -> None:
    with pytest.raises(CheckFailed, match="no request was made meanwhile") as failed:
        errors_bounded([], 0, "meanwhile")
    assert failed.value.class_ == "test"


def test_a_request_that_was_never_answered_is_found() -> None:
    trial = make_trial(FakeNodes({}), make_deployment(workload={"answer_seconds": 10}))
    outages._none_left(trial, [GOOD, BAD], "nats")
    with pytest.raises(
        CheckFailed, match="1 of 2 requests that were made while nats was away, or came back, were never"
    ):
        outages._none_left(trial, [GOOD, Beat(3.0, 10.01, "no answer within 10 s", None)], "nats")


def test_requests_are_made_and_each_is_kept() -> None:
    deployment = make_deployment(entry="http://127.0.0.1:9", workload={"answer_seconds": 1, "pulse_rate": 200})
    with Pulse(make_trial(FakeNodes({}), deployment)) as pulse:
        while len(pulse.beats) < 3:
            pass
    first = pulse.between(0.0)[0]
    assert first.worker is None
    assert "refused" in str(first.problem)
    assert pulse.between(float("inf")) == []
