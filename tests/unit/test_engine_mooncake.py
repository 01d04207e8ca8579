"""Mooncake alone is no engine that serves a model, and says so; what agents are told follows from seeds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import engines
from pyharness.engines.base import Counters
from pyharness.engines.mooncake import Mooncake
from pyharness.exercise import Exchange
from pyharness.verification import agents
from pyharness.verification.base import CheckFailed
from pyharness.verification.node_probe import MOONCAKE_LIBRARIES
from pyharness.verification.test_transfer_engine import percentile
from pyharness.verification.waiting import until
from tests.unit.builders import FakeNodes, make_service, make_trial

if TYPE_CHECKING:
    from pyharness.verification.base import Trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.mooncake]

AGENT = make_service("prefill", name="agent_a")


def trial_that_answers(status: int | None, body: Any, *, dead: tuple[str, ...] = ()) -> Trial:
    def send(url: str, asked: dict[str, Any], _timeout: float) -> Exchange:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        problem = None if status else "connection refused"
        return Exchange("POST", url, asked, status, {}, text, problem, 0.1)

    # Each node knocks at two doors of every service of the other one.
    nodes = FakeNodes({"one": {"reached": [True] * 2}, "two": {"reached": [True] * 4}}, dead=dead)
    return make_trial(nodes, send=send)


def test_the_harness_knows_it() -> None:
    assert isinstance(engines.engine("mooncake"), Mooncake)


def test_it_serves_no_model() -> None:
    engine = Mooncake()
    assert engine.one_token({"a": 1}) == {"a": 1}
    assert engine.counters("x 1\n") == Counters(None, None, None, None)
    for asked in (engine.answer, engine.served_models):
        with pytest.raises(ValueError, match="serves no model"):
            asked({"text": "hello"})


def test_content_follows_from_its_seed_alone() -> None:
    assert agents.content("a", 64)[:32] == agents.content("a", 32)
    assert agents.content("a", 32) != agents.content("b", 32)
    # The first bytes of SHAKE-128 of nothing: FIPS 202's own example.
    assert agents.content("", 4).hex() == "7f9c2ba4"


def test_an_agents_answer_is_handed_on() -> None:
    assert agents.ask(trial_that_answers(200, {"code": 0}), AGENT, "transfer", {}) == {"code": 0}


def test_an_agent_that_refuses_is_no_defect_of_mooncake() -> None:
    with pytest.raises(CheckFailed, match="agent_a on one did not do fill: 'seed' is missing") as failed:
        agents.ask(trial_that_answers(400, {"error": "'seed' is missing"}), AGENT, "fill", {})
    assert failed.value.class_ == "test"


def test_an_agent_that_is_silent_or_dead_is() -> None:
    with pytest.raises(CheckFailed, match="did not do fill: connection refused") as failed:
        agents.ask(trial_that_answers(None, None), AGENT, "fill", {})
    assert failed.value.class_ == "product"


@pytest.mark.parametrize(
    ("path", "loaded"),
    [
        ("/w/mooncake/engine.so", True),
        ("/w/mooncake/mooncake_master", True),
        ("/w/mooncake/mooncake_master (deleted)", True),
        ("/w/mooncake_transfer_engine.libs/libglog-6ed04f2c.so.0.0.0", True),
        ("/w/mooncake/mooncake_masters_notes", False),
        ("/w/mooncake/cli.py", False),
        ("/usr/bin/python3.11", False),
    ],
)
def test_a_program_of_the_wheel_counts_as_loaded(path: str, *, loaded: bool) -> None:
    assert bool(re.search(MOONCAKE_LIBRARIES, path)) is loaded


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 90, 99, 100)] == [50.0, 90.0, 99.0, 100.0]
    assert percentile([3.0], 99) == 3.0


def test_waiting_ends_with_what_was_seen_last() -> None:
    seen = iter([0, 0, 7])
    assert until(lambda: next(seen), 5)[0] == 7
    found, spent = until(lambda: None, 0.2)
    assert found is None
    assert 0.2 <= spent < 5
