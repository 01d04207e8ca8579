"""Going on with a run: what is done stays, what is not or has changed is done again, and nothing is taken on trust."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import facts, journal, unfinished
from pyharness.errors import UsageError
from pyharness.playbook import Outcome, TaskFailure
from pyharness.verification.base import CheckFailed
from tests.unit.world import CASE, DEPLOYS, MODELS, World

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

REFUSED = Outcome("failed", [TaskFailure("one", "Prove", "node", "port held")], "", 0.1)


class Killed(BaseException):
    """The harness is gone: nothing of it runs any more."""


def killing() -> None:
    raise Killed


def killed_at(world: World, where: str, **options: Any) -> str:
    """Run until the harness is killed. Returns the run's id."""
    world.on[where] = killing
    with pytest.raises(Killed):
        world.live(**options)
    del world.on[where]
    path = world.results / CASE / "journal.jsonl"
    # The one that wrote it is this very process: make it one that is gone.
    path.write_text(path.read_text().replace(json.dumps(unfinished.own_identity()), "[1, 1]"))
    world.played.clear()
    return str(world.written()["run_id"])


def tell_processes(world: World, monkeypatch: pytest.MonkeyPatch, process: dict[str, Any] | None) -> None:
    """Have the nodes say the same of each service's process."""

    def probe(services: list[Any], **asked: Any) -> dict[str, dict[str, Any]]:
        if asked:
            return World.probe(world, services, **asked)
        found: dict[str, dict[str, Any]] = {}
        for service in services:
            entry = process and {"started_at": service.started_at, **process}
            found.setdefault(service.node, {"services": {}})["services"][service.name] = {"process": entry}
        return found

    monkeypatch.setattr(world, "probe", probe)


def test_a_trial_that_has_passed_is_not_tried_again(world: World) -> None:
    run_id = killed_at(world, DEPLOYS[1])
    report = world.live(resume=True)
    assert (report.run_id, report.verdict) == (run_id, "pass")
    assert [phase.status for phase in report.phases].count("failed") == 1
    assert world.played == ["resume-teardown-0", "resume-teardown-1", DEPLOYS[1], "teardown"]
    assert [model.name for model in report.models] == MODELS
    assert len(world.written("deployment.json")["deployments"]) == 2
    assert [phase.name for phase in report.phases] == [
        "provision", "deploy", "verify", "exercise", "deploy",
        "clean up", "deploy", "verify", "exercise", "teardown",
    ]  # fmt: skip


def test_a_deployment_that_is_still_up_is_verified_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = killed_at(world, "verify", models=(MODELS[0],))
    tell_processes(world, monkeypatch, {"state": "S", "run": run_id})
    report = world.live(resume=True, models=(MODELS[0],))
    assert report.verdict == "pass"
    assert world.played == ["teardown"]


@pytest.mark.parametrize(
    "process",
    [
        None,
        {"state": "Z", "run": "RUN"},
        {"state": "S", "run": "20200101-000000-dead"},
        {"state": "S", "run": "RUN", "started_at": 7.0e9},
    ],
)
def test_a_deployment_of_which_a_service_is_not_the_one_that_was_started_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, process: dict[str, Any] | None
) -> None:
    run_id = killed_at(world, "verify", models=(MODELS[0],))
    if process and process["run"] == "RUN":
        process = {**process, "run": run_id}
    tell_processes(world, monkeypatch, process)
    report = world.live(resume=True, models=(MODELS[0],))
    assert report.verdict == "pass"
    assert world.played == ["resume-teardown-0", "resume-teardown-1", DEPLOYS[0], "teardown"]


def test_what_changed_is_done_again(world: World) -> None:
    killed_at(world, DEPLOYS[1])
    world.inventory.write_text("another")
    report = world.live(resume=True)
    assert report.verdict == "pass"
    assert world.played == ["resume-teardown-0", "resume-teardown-1", "provision", *DEPLOYS, "teardown"]


def test_without_what_provisioning_had_learned_it_is_done_again(world: World) -> None:
    run_id = killed_at(world, DEPLOYS[1])
    shutil.rmtree(facts.folder(run_id))
    # A runner that finds nothing there, as the real one does.
    world.runner_learns = False
    assert world.live(resume=True).verdict == "pass"
    assert world.played == ["resume-teardown-0", "resume-teardown-1", "provision", DEPLOYS[1], "teardown"]


def test_where_all_is_done_nothing_is_done(world: World) -> None:
    assert world.live().verdict == "pass"
    forget_writer(world)
    world.played.clear()
    assert world.live(resume=True).verdict == "pass"
    assert world.played == ["teardown"]


def test_a_trial_that_failed_is_tried_again(world: World) -> None:
    world.on["answer_correct"] = lambda: (_ for _ in ()).throw(CheckFailed("wrong", hint="look"))
    assert world.live().verdict == "fail"
    world.on.clear()
    forget_writer(world)
    world.played.clear()
    report = world.live(resume=True)
    assert (report.verdict, report.failures) == ("pass", [])
    assert world.played == [*DEPLOYS, "teardown"]


def forget_writer(world: World) -> None:
    path = world.results / CASE / "journal.jsonl"
    path.write_text(path.read_text().replace(json.dumps(unfinished.own_identity()), "[1, 1]"))


def test_provisioning_that_failed_is_done_again(world: World) -> None:
    world.outcomes["provision"] = REFUSED
    assert world.live().verdict == "error"
    forget_writer(world)
    world.outcomes.clear()
    world.played.clear()
    assert world.live(resume=True).verdict == "pass"
    assert world.played == ["provision", *DEPLOYS, "teardown"]


def test_what_cannot_be_ended_ends_the_run(world: World) -> None:
    killed_at(world, DEPLOYS[1])
    world.outcomes["resume-teardown-1"] = REFUSED
    report = world.live(resume=True)
    assert report.verdict == "error"
    assert DEPLOYS[1] not in world.played
    assert report.failures[0].evidence == "one: port held"


def test_time_adds_up(world: World) -> None:
    first = world.live(models=(MODELS[0],))
    forget_writer(world)
    second = world.live(resume=True, models=(MODELS[0],))
    assert second.timing.total > first.timing.total
    assert second.timing.engine_start == first.timing.engine_start == 3.5


# ---------------------------------------------------------------- refusals


def spoil(name: str, content: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        (world.results / CASE / name).write_text(content)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (spoil("report.json", "{"), "holds no run to go on with"),
        (spoil("journal.jsonl", ""), "holds no journal of run"),
        (lambda _world: None, r"is still at work \(pid \d+\)"),
    ],
)
def test_what_cannot_be_gone_on_with_is_a_usage_error(world: World, change: Callable[[World], None], told: str) -> None:
    world.live()
    change(world)
    with pytest.raises(UsageError, match=f"--resume: .*{told}"):
        world.live(resume=True)


def test_there_is_nothing_to_go_on_with(world: World) -> None:
    with pytest.raises(UsageError, match="holds no run to go on with"):
        world.live(resume=True)
    assert not (world.results / CASE).exists()


def test_without_deployments_there_is_nothing_up(world: World) -> None:
    killed_at(world, DEPLOYS[0])
    (world.results / CASE / "deployment.json").unlink(missing_ok=True)
    assert world.live(resume=True).verdict == "pass"


def test_a_half_written_journal_is_no_obstacle(world: World) -> None:
    killed_at(world, DEPLOYS[1])
    path = world.results / CASE / "journal.jsonl"
    path.write_text(path.read_text() + '{"at": 1, "ev')
    assert world.live(resume=True).verdict == "pass"
    assert any(event["event"] == "finished" for event in journal.read(path))
