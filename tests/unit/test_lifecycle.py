"""The life of a run with stand-ins for Ansible, the nodes and the checks: it always ends clean and in a verdict."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from pyharness import exercise, lifecycle, reference, results
from pyharness.errors import UsageError
from pyharness.playbook import Outcome, TaskFailure
from pyharness.verification.base import CheckFailed
from pyharness.verification.node_probe import NodeError
from tests.unit.world import CASE, DEPLOYS, MODELS, World

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

REFUSED = Outcome("failed", [TaskFailure("one", "Prove", "node", "port held")], "", 0.1)


def raising(error: BaseException) -> Callable[[], None]:
    def now() -> None:
        raise error

    return now


def test_a_run_in_which_all_goes_well_passes(world: World) -> None:
    report = world.live(wheel="1.0", extra_vars={"disagg_min_free_gib": 0})
    assert report.verdict == "pass"
    assert world.played == ["provision", *DEPLOYS, "teardown"]
    assert [phase.name for phase in report.phases] == [
        "provision", "deploy", "verify", "exercise", "deploy", "verify", "exercise", "teardown",
    ]  # fmt: skip
    assert {phase.status for phase in report.phases} == {"ok"}
    assert [check.id for check in report.checks] == ["nodes_clean"]


def test_what_does_not_come_up_right_after_provisioning_is_a_failed_deploy(world: World) -> None:
    world.outcomes[DEPLOYS[0]] = Outcome(
        "failed", [TaskFailure("one", "Start", "service", "it did not start")], "", 1.0
    )
    report = world.live()
    assert report.verdict == "error"
    assert world.played == ["provision", DEPLOYS[0], "collect", "teardown"]
    assert [(phase.name, phase.status) for phase in report.phases[:2]] == [("provision", "ok"), ("deploy", "failed")]
    assert (report.failures[0].check, report.failures[0].trial) == ("deploy", MODELS[0])


def test_what_a_node_lacks_is_a_failed_provisioning_and_nothing_is_deployed(world: World) -> None:
    world.outcomes["provision"] = Outcome("failed", [TaskFailure("one", "Look", "node", "no memory")], "", 1.0)
    report = world.live()
    assert world.played == ["provision", "collect", "teardown"]
    assert [(phase.name, phase.status) for phase in report.phases[:1]] == [("provision", "failed")]
    assert (report.failures[0].check, report.failures[0].trial) == ("provision", None)


def test_the_report_says_what_was_tested(world: World) -> None:
    world.live()
    report = world.written()
    assert report["simulated"] is True
    assert report["transport"] == {"declared": "rdma", "requested": "tcp", "used": "tcp", "evidence": []}
    assert report["artifacts"]["wheel"] == {"file": world.wheel.name, "sha256": "0", "source": "file", "origin": None}
    assert report["versions"]["sglang"] == "0.5.23"
    assert [model["name"] for model in report["models"]] == MODELS
    assert report["models"][0]["served"] == {"path": "/m", "revision": "r1", "stand_in": None}
    assert report["timing"]["engine_start"] == 7.0
    assert len(world.written("deployment.json")["deployments"]) == 2
    assert world.written("test_results.json")["status"] == "Pass"
    assert (world.results / CASE / "whls" / world.wheel.name).is_file()
    assert not list((world.results / CASE).glob(".deploy-*")), "what Ansible handed over is in deployment.json"


def test_playbooks_are_given_what_was_asked_for(world: World) -> None:
    report = world.live(wheel=str(world.wheel), models=(MODELS[1],), extra_vars={"disagg_min_free_gib": 0})
    assert world.played == ["provision", DEPLOYS[1], "teardown"]
    given = world.variables["provision"]
    assert (given["disagg_run"], given["disagg_hosts"]) == (report.run_id, "prefill_nodes:decode_nodes")
    assert given["models"] == [MODELS[1]]
    assert (given["disagg_wheel"], given["disagg_min_free_gib"]) == (str(world.wheel.resolve()), 0)
    assert world.variables[DEPLOYS[1]]["disagg_model"] == MODELS[1]
    assert world.variables["teardown"]["disagg_logs_to"] == str(world.results / CASE / "logs")


def test_a_person_is_told_each_step_and_check(world: World) -> None:
    world.on["verify"] = raising(CheckFailed("not ours\nmore", hint="look"))
    world.live()
    assert world.told[:4] == ["provision", f"deploy {MODELS[0]}", f"verify {MODELS[0]}", (
        "  fail    services_are_ours: not ours"
    )]  # fmt: skip


def test_while_it_runs_the_result_on_disk_is_a_fail(world: World) -> None:
    world.live()
    seen: list[str] = []
    world.on["provision"] = lambda: seen.append(world.written("test_results.json")["status"])
    world.live()
    assert seen == ["Fail"]


@pytest.mark.parametrize("label", ["provision", *DEPLOYS])
def test_a_playbook_that_fails_ends_the_run_cleanly(world: World, label: str) -> None:
    world.outcomes[label] = REFUSED
    report = world.live()
    assert report.verdict == "error"
    assert report.failures[0].evidence == "one: port held"
    assert world.played[-3:] == [label, "collect", "teardown"]
    assert report.phases[-2].status == "failed"


def test_a_teardown_that_fails_is_a_failure_of_the_run(world: World) -> None:
    world.outcomes["teardown"] = REFUSED
    report = world.live()
    assert report.verdict == "error"
    assert {model.verdict for model in report.models} == {"pass"}
    assert report.phases[-1].status == "failed"


def test_processes_that_are_left_are_a_failure_of_the_run(world: World) -> None:
    world.left = [{"pid": 7, "run": "x", "service": "decode", "command": "python"}]
    report = world.live()
    assert report.verdict == "error"
    assert report.failures[0].check == "nodes_clean"


@pytest.mark.parametrize("where", ["verify", "answer_correct"])
def test_what_spoils_the_judgement_spares_the_other_models(world: World, where: str) -> None:
    world.on[where] = raising(CheckFailed("wrong wheel", hint="look", spoils_judgement=True))
    report = world.live()
    assert report.verdict == "error"
    assert DEPLOYS[1] not in world.played
    assert world.played[-1] == "teardown"


def test_a_product_failure_does_not_spare_the_other_models(world: World) -> None:
    world.on["answer_correct"] = raising(CheckFailed("wrong text", hint="look"))
    report = world.live()
    assert report.verdict == "fail"
    assert [failure.trial for failure in report.failures] == MODELS
    assert world.played == ["provision", *DEPLOYS, "collect", "teardown"]


@pytest.mark.parametrize(
    ("error", "class_", "evidence"),
    [
        (KeyError("text"), "test", "KeyError: 'text'"),
        (NodeError("two", "no route"), "infrastructure", "two cannot be asked: no route"),
        (UsageError("group decode_nodes has no host"), "configuration", "group decode_nodes has no host"),
    ],
)
@pytest.mark.parametrize("where", ["exercise", DEPLOYS[1]])
def test_whatever_breaks_a_run_is_never_a_pass(
    world: World, where: str, error: Exception, class_: str, evidence: str
) -> None:
    """The second model's checks may all have passed by then: silence after them must not read as success."""
    world.on[where] = raising(error)
    report = world.live()
    assert (report.verdict, world.written()["verdict"]) == ("error", "error")
    assert (class_, evidence) in [(failure.class_, failure.evidence) for failure in report.failures]
    assert world.written("test_results.json")["status"] == "Fail"
    assert world.played[-1] == "teardown"


def test_a_teardown_that_breaks_is_never_a_pass(world: World) -> None:
    world.on["teardown"] = raising(OSError("ansible-runner is gone"))
    report = world.live()
    assert report.verdict == "error"
    assert report.failures[-1].evidence == "OSError: ansible-runner is gone"


def test_logs_that_cannot_be_unpacked_do_not_keep_the_nodes_from_being_looked_at(world: World) -> None:
    def send_rubbish() -> None:
        (world.results / CASE / "logs" / "one.tar.gz").write_text("no archive")

    world.on["teardown"] = send_rubbish
    report = world.live()
    assert report.verdict == "error"
    assert report.failures[0].evidence.startswith("ReadError")
    assert [check.id for check in report.checks] == ["nodes_clean"]


def test_keep_leaves_the_deployment_up(world: World) -> None:
    report = world.live(keep=True)
    assert report.verdict == "pass"
    assert "teardown" not in world.played


def test_what_is_kept_of_a_run_that_did_not_pass_is_asked_too(world: World) -> None:
    world.on["answer_correct"] = raising(CheckFailed("wrong text", hint="look"))
    world.live(keep=True)
    assert world.played[-1] == "collect"


def interrupting(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("where", ["provision", "exercise", DEPLOYS[1]])
@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupted_run_is_taken_down_whatever_was_asked(
    world: World,
    where: str,
    keep: bool,  # noqa: FBT001 (a table's column)
) -> None:
    before = signal.getsignal(signal.SIGINT)
    world.on[where] = interrupting(signal.SIGINT)
    report = world.live(keep=keep)
    assert report.verdict == "error"
    phase = "deploy" if where.startswith("deploy") else where
    assert report.failures[0].evidence == f"SIGINT ended the run in phase {phase}"
    assert world.played[-1] == "teardown"
    assert [check.id for check in report.checks] == ["nodes_clean"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_before_the_first_phase_touches_no_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle.provisioning, "take_nodes", lambda _run: interrupting(signal.SIGTERM)())
    report = world.live(models=(MODELS[0],))
    assert report.verdict == "error"
    assert "teardown" not in world.played


@pytest.mark.parametrize(("where", "told"), [("load", "no YAML"), ("names", "group decode_nodes has no host")])
def test_an_inventory_that_cannot_be_read_is_a_usage_error_and_nothing_is_begun(
    world: World, where: str, told: str
) -> None:
    world.on[where] = raising(UsageError(f"-i inventory: {told}"))
    with pytest.raises(UsageError, match=told):
        world.live()
    assert world.played == []
    assert (world.written()["verdict"], world.written()["failures"][0]["check"]) == ("error", "usage")
    assert world.written("test_results.json")["status"] == "Fail"


def test_options_that_cannot_be_met_leave_an_error_result_and_nothing_else(world: World) -> None:
    world.live()
    with pytest.raises(UsageError, match="--model org/none"):
        world.live(models=("org/none",))
    assert world.written("test_results.json")["status"] == "Fail"
    assert world.played.count("provision") == 1


# ---------------------------------------------------------------- references


def test_the_inventory_says_how_the_reference_is_found(world: World) -> None:
    world.method = "guessed"
    told = "disagg_reference: 'guessed' is not one of transformers, single_engine, recorded, pattern, none"
    with pytest.raises(UsageError, match=told):
        world.live()
    assert world.written("report.json")["failures"][0]["evidence"] == told
    assert "provision" not in world.played


def test_a_recorded_reference_takes_the_place_of_the_deployments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "recorded", lambda _case, model: {"text": f"of {model}", "revision": "r1"})
    world.live(extra_vars={"disagg_reference": "recorded"}, models=(MODELS[0],))
    kept = world.written("deployment.json")["deployments"][0]["reference"]
    assert kept == {"method": "recorded", "answer": {"text": f"of {MODELS[0]}", "revision": "r1"}}


def test_a_recorded_reference_of_another_revision_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "recorded", lambda _case, _model: {"text": "x", "revision": "r0"})
    report = world.live(extra_vars={"disagg_reference": "recorded"}, models=(MODELS[0],))
    assert report.verdict == "error"
    assert "is of revision r0, and r1 is deployed" in report.failures[0].evidence


def test_one_engine_alone_is_deployed_asked_and_taken_down_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.method = None
    monkeypatch.setattr(reference, "ask_single_engine", lambda *_arguments: {"text": "alone"})
    report = world.live(models=(MODELS[0],))
    name = MODELS[0].replace("/", "__")
    assert world.played == [
        "provision", f"reference-{name}", f"reference-teardown-{name}", f"deploy-{name}", "teardown",
    ]  # fmt: skip
    alone = world.variables[f"reference-{name}"]
    assert (alone["playbook"], alone["disagg_run"]) == ("single_engine.yml", f"{report.run_id}-single")
    assert world.variables[f"reference-teardown-{name}"]["disagg_run"] == f"{report.run_id}-single"
    assert world.written("deployment.json")["deployments"][0]["reference"]["answer"] == {"text": "alone"}
    assert report.timing.engine_start == 7.0


def test_an_engine_alone_that_is_not_taken_down_yet_is_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.method = None
    monkeypatch.setattr(reference, "ask_single_engine", lambda *_arguments: raising(KeyError("x"))())
    report = world.live(models=(MODELS[0],))
    assert report.verdict == "error"
    assert world.played[-2:] == ["reference-teardown", "teardown"]
    assert world.variables["reference-teardown"]["disagg_run"] == f"{report.run_id}-single"


# ---------------------------------------------------------------- sending


def test_requests_are_kept_and_watched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise, "_WATCH_SECONDS", 0.01)
    with socket.create_server(("127.0.0.41", 0)) as silent:
        url = f"http://127.0.0.41:{silent.getsockname()[1]}/generate"
        exchanges: list[exercise.Exchange] = []
        world.on["exercise"] = lambda: exchanges.append(world.send(url, {"text": "Once"}, 30.0))
        report = world.live(models=(MODELS[0],))
    assert exchanges[0].problem == "service prefill on one has ended"
    log = world.results / CASE / "logs" / "Qwen__Qwen3-8B" / "curl_response.log"
    assert log.read_text() == exchanges[0].transcript() + "\n"
    assert report.timing.inference > 0
    assert report.timing.own == pytest.approx(
        report.timing.total - report.timing.engine_start - report.timing.inference, abs=0.002
    )


def test_run_ids_sort_by_time_and_differ() -> None:
    first, second = results.new_run_id(), results.new_run_id()
    assert first != second
    assert first[:15] <= second[:15]
