"""A run of a case with variants: each model in each variant, and what is expected of one leaves the others alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness import case as cases
from pyharness import lifecycle
from pyharness.errors import UsageError
from pyharness.playbook import Outcome, TaskFailure
from pyharness.verification import test_1p1d_erdma as job
from pyharness.verification.base import CheckFailed
from tests.unit.world import MODELS, World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

VARIANTS: list[dict[str, Any]] = [
    {"name": "plain"},
    {
        "name": "refused",
        "models": [MODELS[0]],
        "unsupported": {"platform": "simulator", "refusal": "needs CUDA", "reason": "no kernel for a CPU"},
    },
    {
        "name": "broken",
        "models": [MODELS[1]],
        "expected_failure": {"check": "answer_correct", "evidence": "wrong text", "reason": "0.5.23 loses pages"},
    },
]
SLUGS = [model.replace("/", "__") for model in MODELS]
PLAYED = [f"{SLUGS[0]}.plain", f"{SLUGS[0]}.refused", f"{SLUGS[1]}.plain", f"{SLUGS[1]}.broken"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    subject = World(tmp_path)
    declared = cases.load("test_1p1d_erdma").model_dump(by_alias=True)
    varied = cases.TestCase.model_validate({**declared, "variants": VARIANTS})
    monkeypatch.setattr(cases, "load", lambda _name: varied)
    monkeypatch.setattr(lifecycle.run, "PlaybookRunner", subject.runner)
    monkeypatch.setattr(lifecycle.run, "Nodes", subject.nodes)
    monkeypatch.setattr(job, "verify", subject.verify)
    monkeypatch.setattr(job, "exercise", subject.exercise)
    subject.method = "transformers"
    details = {"service": "single", "kind": "died", "detail": "exit 1", "log": "/l", "tail": ["E: needs CUDA 12"]}
    dead = TaskFailure("one", "Wait", "service", "died", details=details)
    subject.outcomes[f"deploy-{PLAYED[1]}"] = Outcome("failed", [dead], "", 1.0)
    subject.on[f"deploy-{PLAYED[3]}"] = lambda: subject.on.update(answer_correct=wrong_text)
    return subject


def wrong_text() -> None:
    raise CheckFailed("wrong text", hint="look")


def test_every_trial_is_deployed_and_judged_by_itself(world: World) -> None:
    report = world.live()
    assert world.played == ["provision", *(f"deploy-{slug}" for slug in PLAYED), "teardown"]
    assert [(model.trial, model.verdict) for model in report.models] == [
        (f"{MODELS[0]} [plain]", "pass"),
        (f"{MODELS[0]} [refused]", "error"),
        (f"{MODELS[1]} [plain]", "pass"),
        (f"{MODELS[1]} [broken]", "fail"),
    ]
    assert [model.expected.kind if model.expected else None for model in report.models] == [
        None,
        "unsupported",
        None,
        "failure",
    ]
    assert report.verdict == "pass"
    assert world.variables[f"deploy-{PLAYED[1]}"]["disagg_variant"] == "refused"
    assert sorted(path.name for path in (world.results / "test_1p1d_erdma" / "logs").iterdir()) == sorted(
        ["ansible", PLAYED[0], PLAYED[2], PLAYED[3]]
    )


def test_the_refusal_stands_in_the_report_in_its_own_words(world: World) -> None:
    report = world.live()
    (failure,) = [failure for failure in report.failures if failure.class_ == "unsupported"]
    assert (failure.evidence, failure.trial) == ("E: needs CUDA 12", f"{MODELS[0]} [refused]")


def test_one_variant_of_one_model_can_be_chosen(world: World) -> None:
    report = world.live(models=(MODELS[1],), variants=("plain",))
    assert world.played == ["provision", f"deploy-{PLAYED[2]}", "teardown"]
    assert world.variables["provision"]["models"] == [MODELS[1]]
    assert report.verdict == "pass"


def test_where_only_the_refused_is_chosen_the_run_is_an_error_of_class_unsupported(world: World) -> None:
    report = world.live(variants=("refused",))
    assert report.verdict == "error"
    assert [failure.class_ for failure in report.failures] == ["unsupported"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"variants": ("other",)},
            "--variant other: test_1p1d_erdma declares plain, refused, broken; name one of them",
        ),
        ({"variants": ("broken",), "models": (MODELS[0],)}, f"--variant broken: not with model {MODELS[0]}"),
    ],
)
def test_what_is_not_declared_is_refused_before_anything_is_touched(
    world: World, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        world.live(**changes)
    assert world.played == []


def test_another_end_than_the_expected_one_ends_the_run(world: World) -> None:
    details = {"service": "single", "kind": "died", "detail": "exit 1", "log": "/l", "tail": ["E: no such file"]}
    dead = TaskFailure("one", "Wait", "service", "died", details=details)
    world.outcomes[f"deploy-{PLAYED[1]}"] = Outcome("failed", [dead], "", 1.0)
    report = world.live()
    assert report.verdict == "fail"
    assert world.played[-3:] == [f"deploy-{PLAYED[1]}", "collect", "teardown"]
