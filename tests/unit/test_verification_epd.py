"""The order of checks where the encoder, or the number of ranks, is looked at besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case
from pyharness.engines.sglang_encoder import EncoderCounters
from pyharness.verification import (
    embedding,
    one_pair,
    server_info,
    services,
    test_disaggregation_different_tp,
    test_epd_sglang,
    wheel,
)
from pyharness.verification.base import CheckFailed, Evidence, Recorder, Trial
from pyharness.verification.transfer import Snapshot
from tests.unit.builders import FakeNodes, make_deployment, make_trial

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SEEN = embedding.Seen({"encoder": EncoderCounters(1, 0, 1, {})}, Snapshot({}, {}))


def wrong(*_arguments: Any) -> Evidence:
    raise CheckFailed("something else", hint="look")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let every check pass, and keep what it was asked for."""
    kept: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., Evidence]:
        def check(*arguments: Any) -> Evidence:
            kept[name] = arguments[1:]
            return {}

        return check

    monkeypatch.setattr(services, "services_are_ours", keep("services"))
    monkeypatch.setattr(wheel, "wheel_in_use", keep("wheel"))
    monkeypatch.setattr(server_info, "as_deployed", keep("servers"))
    for name in ("embedding_moved", "embedding_received"):
        monkeypatch.setattr(embedding, name, keep(name))
    monkeypatch.setattr(embedding, "snapshot", lambda _trial: SEEN)
    monkeypatch.setattr(embedding, "snapshot_after", lambda _trial, _before: SEEN)
    monkeypatch.setattr(one_pair, "exercise", lambda trial: answered(trial, "pass"))
    return kept


def answered(trial: Trial, status: str) -> None:
    """Stand in for the exercise of prefill and decode."""
    for name in one_pair.CHECKS[2:]:
        if status == "pass":
            trial.recorder.run(name, dict)
        else:
            trial.recorder.skip(name, "no answer")


def trial_of(name: str, variant: str) -> Trial:
    deployment = make_deployment(variant=variant, test_case=name)
    return make_trial(FakeNodes({}), deployment, case=case.load(name), recorder=Recorder("org/model", []))


def statuses(trial: Trial) -> dict[str, str]:
    return {check.id: check.status for check in trial.recorder.checks}


@pytest.mark.parametrize(
    ("variant", "backend", "kinds"),
    [
        ("zmq", "zmq_to_scheduler", ("prefill", "decode")),
        ("mooncake", "mooncake", ("prefill", "decode", "encoder")),
    ],
)
def test_every_check_of_encoder_prefill_and_decode(
    asked: dict[str, Any], variant: str, backend: str, kinds: tuple[str, ...]
) -> None:
    trial = trial_of("test_epd_sglang", variant)
    assert test_epd_sglang.verify(trial)
    test_epd_sglang.exercise(trial)
    assert statuses(trial) == dict.fromkeys(test_epd_sglang.CHECKS, "pass")
    assert asked["wheel"] == (kinds,)
    assert asked["servers"][0]["prefill"] == {"language_only": True, "encoder_transfer_backend": backend}
    assert asked["embedding_moved"][-1] == backend


def test_prefill_that_encodes_itself_is_not_asked(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_info, "as_deployed", wrong)
    trial = trial_of("test_epd_sglang", "zmq")
    assert not test_epd_sglang.verify(trial)
    assert asked
    assert statuses(trial)["encoder_apart"] == "fail"
    assert {statuses(trial)[name] for name in test_epd_sglang.CHECKS[3:]} == {"skipped"}


def test_nothing_is_asked_of_an_encoder_that_does_not_answer(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "snapshot", wrong)
    trial = trial_of("test_epd_sglang", "zmq")
    test_epd_sglang.exercise(trial)
    assert not asked
    expected = {"encoder_ready": "fail", **dict.fromkeys(test_epd_sglang.CHECKS[4:], "skipped")}
    assert statuses(trial) == expected


def test_without_an_answer_prefills_complaints_are_told_and_no_picture_is_looked_at(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_pair, "exercise", lambda trial: answered(trial, "skipped"))
    monkeypatch.setattr(embedding, "embedding_received", wrong)
    trial = trial_of("test_epd_sglang", "zmq")
    test_epd_sglang.exercise(trial)
    assert "embedding_moved" not in asked
    assert (statuses(trial)["embedding_received"], statuses(trial)["embedding_moved"]) == ("fail", "skipped")


def test_different_ranks_are_asked_for_by_variant(asked: dict[str, Any]) -> None:
    trial = trial_of("test_disaggregation_different_tp", "prefill2_decode1")
    assert test_disaggregation_different_tp.verify(trial)
    test_disaggregation_different_tp.exercise(trial)
    assert asked["servers"] == ({"prefill": {"tp_size": 2}, "decode": {"tp_size": 1}},)
    assert statuses(trial) == dict.fromkeys(test_disaggregation_different_tp.CHECKS, "pass")


def test_equal_ranks_are_not_asked(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_info, "as_deployed", wrong)
    trial = trial_of("test_disaggregation_different_tp", "prefill2_decode1")
    assert not test_disaggregation_different_tp.verify(trial)
    assert asked
    assert statuses(trial)["ranks_as_declared"] == "fail"
    assert {statuses(trial)[name] for name in one_pair.CHECKS[2:]} == {"skipped"}
