"""When nodes are asked what they say, and when there is a bundle: of every run that is not a pass, and of no other."""

from __future__ import annotations

import os
import signal

import pytest

from pyharness import bundle
from pyharness.playbook import Outcome, TaskFailure
from pyharness.verification.base import CheckFailed
from tests.unit.world import CASE, DEPLOYS, World

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

UNREACHABLE = Outcome("failed", [TaskFailure("one", "Ask", "", "no route", unreachable=True)], "", 0.1)


def there_is_a_bundle(world: World) -> bool:
    return (world.results / CASE / bundle.NAME).exists()


def wrong_text() -> None:
    raise CheckFailed("wrong text", hint="look")


def test_a_pass_has_neither(world: World) -> None:
    assert world.live().verdict == "pass"
    assert "collect" not in world.played
    assert not there_is_a_bundle(world)


def test_a_fail_has_both_and_the_nodes_are_asked_before_they_are_cleaned(world: World) -> None:
    world.on["answer_correct"] = wrong_text
    assert world.live().verdict == "fail"
    assert world.played == ["provision", *DEPLOYS, "collect", "teardown"]
    assert world.variables["collect"]["disagg_run"] == world.variables["teardown"]["disagg_run"]
    assert there_is_a_bundle(world)


@pytest.mark.parametrize("label", ["provision", DEPLOYS[0]])
def test_an_error_and_a_timeout_have_both(world: World, label: str) -> None:
    world.outcomes[label] = Outcome("timeout", [], "", 0.1)
    assert world.live().verdict == "error"
    assert world.played[-3:] == [label, "collect", "teardown"]
    assert there_is_a_bundle(world)


def test_ctrl_c_has_both(world: World) -> None:
    world.on[DEPLOYS[0]] = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert world.live().verdict == "error"
    assert world.played == ["provision", DEPLOYS[0], "collect", "teardown"]
    assert there_is_a_bundle(world)


def test_nodes_that_are_found_not_to_be_clean_are_asked_afterwards(world: World) -> None:
    world.left = [{"pid": 7, "run": "x", "service": "decode", "command": "python"}]
    assert world.live().verdict == "error"
    assert world.played[-2:] == ["teardown", "collect"]
    assert there_is_a_bundle(world)


@pytest.mark.parametrize("error", [OSError("no room"), RuntimeError("broken")])
def test_a_diagnosis_that_fails_changes_neither_verdict_nor_teardown(world: World, error: Exception) -> None:
    def broken() -> None:
        raise error

    world.on["answer_correct"] = wrong_text
    world.on["collect"] = broken
    report = world.live()
    assert report.verdict == "fail"
    assert {failure.check for failure in report.failures} == {"answer_correct"}
    assert world.played[-1] == "teardown"


def test_a_node_that_cannot_be_reached_changes_neither(world: World) -> None:
    world.on["answer_correct"] = wrong_text
    world.outcomes["collect"] = UNREACHABLE
    assert world.live().verdict == "fail"
    assert world.played[-1] == "teardown"
    assert any("no diagnosis of one: cannot be reached: no route" in line for line in world.told)
