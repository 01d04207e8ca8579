"""What becomes of ansible-runner's events, and when a playbook is ended."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import ansible_runner
import pytest

from pyharness import playbook
from pyharness.playbook import PlaybookRunner, error_line

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def event(kind: str = "runner_on_failed", **data: Any) -> dict[str, Any]:
    given = {"host": "one", "task": "Do it", "role": "disagg.e2e.node", "res": {"msg": " port held \n"}, **data}
    return {"event": kind, "event_data": given}


@pytest.mark.parametrize("kind", ["runner_on_ok", "runner_on_skipped", "playbook_on_stats", "verbose"])
def test_other_events_are_no_failures(kind: str) -> None:
    assert playbook._failure_of(event(kind)) is None


def test_an_ignored_failure_is_none() -> None:
    assert playbook._failure_of(event(ignore_errors=True)) is None


def test_a_failure_has_node_task_role_and_message() -> None:
    failure = playbook._failure_of(event())
    assert failure == playbook.TaskFailure("one", "Do it", "node", "port held")


def test_a_failed_loop_is_one_failure_with_its_first_failed_items_message() -> None:
    """An item's own event does not say whether the task ignores errors, so it is left to the loop's."""
    assert playbook._failure_of(event("runner_item_on_failed")) is None
    items = [{"msg": "fine", "failed": False}, {"msg": "first", "failed": True}, {"msg": "second", "failed": True}]
    failure = playbook._failure_of(event(res={"msg": "One or more items failed", "results": items}))
    assert failure is not None
    assert failure.message == "first"


def test_an_unreachable_node_is_one() -> None:
    failure = playbook._failure_of(event("runner_on_unreachable"))
    assert failure is not None
    assert failure.unreachable


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"msg": "", "stderr": "from stderr"}, "from stderr"),
        ({"exception": "Traceback"}, "Traceback"),
        ({}, "no message"),
        (None, "no message"),
    ],
)
def test_the_message_is_what_there_is(result: dict[str, Any] | None, message: str) -> None:
    failure = playbook._failure_of(event(res=result))
    assert failure is not None
    assert failure.message == message


def test_details_of_a_service_go_along() -> None:
    failure = playbook._failure_of(event(res={"msg": "died", "failure": {"kind": "died"}}))
    assert failure is not None
    assert failure.details == {"kind": "died"}


def test_an_event_that_lacks_everything_is_survived() -> None:
    assert playbook._failure_of({}) is None
    failure = playbook._failure_of({"event": "runner_on_failed", "event_data": {}})
    assert failure is not None
    assert (failure.node, failure.role) == ("?", "")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("PLAY [x]\n[ERROR]: no such group\nmore", "no such group"),
        ("ERROR! the playbook could not be found", "the playbook could not be found"),
        ("first\n\nlast\n\n", "last"),
        ("[ERROR]: ", "[ERROR]: "),
        ("[ERROR]:", "[ERROR]:"),
        ("", "Ansible said nothing"),
    ],
)
def test_the_line_that_says_what_was_wrong(output: str, line: str) -> None:
    assert error_line(output) == line


class Ansible:
    """Stands in for ansible-runner: sends events, asks whether to go on, ends as told."""

    def __init__(self, status: str, *events: dict[str, Any], asks: bool = False, output: str = "its output") -> None:
        self.status, self.events, self.asks, self.output = status, events, asks, output
        self.given: dict[str, Any] = {}
        self.private_mode = 0
        self.cancelled = False

    def run(self, **given: Any) -> SimpleNamespace:
        self.given = given
        self.private_mode = Path(given["private_data_dir"]).stat().st_mode & 0o777
        for sent in self.events:
            assert given["event_handler"](sent)
        if self.asks:
            self.cancelled = given["cancel_callback"]()
        return SimpleNamespace(status=self.status, stdout=io.StringIO(self.output))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., playbook.Outcome]:
    """Return a function that runs a playbook with a stand-in for Ansible."""

    def running(ansible: Ansible, *, cancelled: bool = False, **options: Any) -> playbook.Outcome:
        monkeypatch.setattr(ansible_runner, "run", ansible.run)
        runner = PlaybookRunner(tmp_path / "inventory", tmp_path, lambda: cancelled)
        return runner.run("teardown.yml", {"a": 1}, label="deploy-x", timeout=9, **options)

    return running


def test_the_outcome_of_a_good_playbook(run: Callable[..., playbook.Outcome], tmp_path: Path) -> None:
    ansible = Ansible("successful", event("runner_on_ok"))
    outcome = run(ansible, tags="deploy")
    assert outcome.ok
    assert outcome.output == (tmp_path / "deploy-x.log").read_text() == "its output"
    assert ansible.given["cmdline"] == "--tags deploy"
    assert ansible.given["extravars"] == {"a": 1}
    assert ansible.given["timeout"] == 9
    assert ansible.given["playbook"].endswith("/playbooks/teardown.yml")


def test_nothing_private_is_left_behind(run: Callable[..., playbook.Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    ansible = Ansible("successful")
    run(ansible)
    assert ansible.private_mode == 0o700
    assert not Path(ansible.given["private_data_dir"]).exists()
    assert ansible.given["fact_cache_type"] == "memory"
    assert "secret-token" not in str(ansible.given)
    assert ansible.given["envvars"]["PATH"] == os.environ["PATH"]


def test_the_private_folder_goes_when_ansible_breaks(run: Callable[..., playbook.Outcome]) -> None:
    class Broken(Ansible):
        def run(self, **given: Any) -> SimpleNamespace:
            super().run(**given)
            raise RuntimeError("broken")

    ansible = Broken("failed")
    with pytest.raises(RuntimeError, match="broken"):
        run(ansible)
    assert not Path(ansible.given["private_data_dir"]).exists()


def test_a_failure_ends_the_playbook(run: Callable[..., playbook.Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbook, "_AFTER_FAILURE_SECONDS", -1.0)
    ansible = Ansible("canceled", event(), asks=True)
    outcome = run(ansible)
    assert ansible.cancelled
    assert outcome.status == "failed"
    assert [failure.node for failure in outcome.failures] == ["one"]


def test_a_failure_leaves_the_other_nodes_a_moment(run: Callable[..., playbook.Outcome]) -> None:
    ansible = Ansible("failed", event(), asks=True)
    run(ansible)
    assert not ansible.cancelled


def test_patience_lets_the_other_nodes_go_on(
    run: Callable[..., playbook.Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playbook, "_AFTER_FAILURE_SECONDS", -1.0)
    ansible = Ansible("failed", event(), asks=True)
    run(ansible, patient=True, cancelled=True)
    assert not ansible.cancelled


def test_an_interrupt_ends_the_playbook(run: Callable[..., playbook.Outcome]) -> None:
    ansible = Ansible("canceled", asks=True)
    outcome = run(ansible, cancelled=True)
    assert ansible.cancelled
    assert outcome.status == "canceled"
    assert not outcome.ok


def begins(play: str) -> dict[str, Any]:
    return {"event": "playbook_on_play_start", "event_data": {"play": play}}


TWO_PARTS = "\nPLAY [Know] ****\nok: [one]\n\nPLAY [Deploy] ****\nok: [two]\n"


def test_the_parts_of_a_playbook_are_told_apart(run: Callable[..., playbook.Outcome], tmp_path: Path) -> None:
    told: list[str] = []
    ansible = Ansible("successful", begins("Know"), begins("Deploy"), output=TWO_PARTS)
    outcome = run(ansible, turn=playbook.Turn("Deploy", "second", lambda: told.append("it begins")))
    assert told == ["it begins"]
    assert outcome.output == TWO_PARTS
    assert (tmp_path / "deploy-x.log").read_text() == "\nPLAY [Know] ****\nok: [one]\n"
    assert (tmp_path / "second.log").read_text() == "\nPLAY [Deploy] ****\nok: [two]\n"


def test_a_part_that_was_not_reached_leaves_no_log(run: Callable[..., playbook.Outcome], tmp_path: Path) -> None:
    run(Ansible("failed", event()), turn=playbook.Turn("Deploy", "second", lambda: pytest.fail("it has not begun")))
    assert (tmp_path / "deploy-x.log").read_text() == "its output"
    assert not (tmp_path / "second.log").exists()


def test_what_breaks_between_the_parts_ends_the_playbook_first(run: Callable[..., playbook.Outcome]) -> None:
    def full() -> None:
        raise OSError("no space left on device")

    ansible = Ansible("canceled", begins("Deploy"), asks=True)
    with pytest.raises(OSError, match="no space left"):
        run(ansible, turn=playbook.Turn("Deploy", "second", full))
    assert ansible.cancelled


def heard(*events: dict[str, Any]) -> playbook._Failures:
    failures = playbook._Failures()
    for entry in events:
        failures.take(entry)
    return failures


def test_a_failure_that_is_rescued_is_none() -> None:
    failures = heard(event(), event("runner_on_start"))
    assert failures.standing_for() == 0.0
    assert failures.told(succeeded=True) == []


def test_what_a_rescue_says_stands_for_what_it_rescued() -> None:
    failures = heard(event(res={"msg": "raw"}), event("runner_on_start"), event(res={"msg": "explained"}))
    assert [failure.message for failure in failures.told(succeeded=False)] == ["explained"]


def test_what_always_runs_after_a_failure_does_not_mend_it() -> None:
    failures = heard(event(res={"msg": "raw"}), event("runner_on_start"))
    assert [failure.message for failure in failures.told(succeeded=False)] == ["raw"]


def test_another_nodes_next_task_says_nothing_of_a_failure() -> None:
    failures = heard(event(host="one"), event("runner_on_start", host="two"))
    assert [failure.node for failure in failures.told(succeeded=False)] == ["one"]
