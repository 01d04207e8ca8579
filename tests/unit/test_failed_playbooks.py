"""Whose failure a failed playbook is."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness.classification import playbooks
from pyharness.playbook import Outcome, TaskFailure

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def outcome(*failures: TaskFailure, status: str = "failed", output: str = "") -> Outcome:
    return Outcome(status, list(failures), output, 12.3)


def task(**changes: Any) -> TaskFailure:
    values: dict[str, Any] = {"node": "one", "task": "Do it", "role": "node", "message": "port 1 is\n  held"}
    return TaskFailure(**{**values, **changes})


def ready_failure(*tail: str) -> TaskFailure:
    details = {
        "service": "decode",
        "kind": "died",
        "detail": "exit status 1, 3 s after its start",
        "log": "/run/decode.log",
        "tail": list(tail),
    }
    return task(node="two", role="service", message="service decode died", details=details)


def test_a_playbook_that_went_well_explains_nothing() -> None:
    assert playbooks.explain(outcome(status="successful"), "deploy", None) == []


def test_a_failed_task_spoils_even_a_successful_end() -> None:
    assert playbooks.explain(outcome(task(), status="successful"), "deploy", None)


def test_a_timeout_is_the_infrastructures() -> None:
    (failure,) = playbooks.explain(outcome(status="timeout"), "deploy", "org/model")
    assert (failure.class_, failure.check, failure.trial) == ("infrastructure", "deploy", "org/model")
    assert failure.evidence == "the playbook did not end within its time and was stopped after 12 s"
    assert "logs/ansible/deploy*.log" in failure.hint


def test_an_end_before_any_task_is_the_configurations() -> None:
    (failure,) = playbooks.explain(outcome(output="noise\n[ERROR]: no such group\n"), "provision", None)
    assert (failure.class_, failure.evidence) == ("configuration", "no such group")


def test_an_unreachable_node_is_named() -> None:
    (failure,) = playbooks.explain(outcome(task(unreachable=True, message="ssh:\n no route")), "provision", None)
    assert (failure.class_, failure.evidence) == ("infrastructure", "one cannot be reached: ssh: no route")
    assert failure.hint.endswith("ansible -m ansible.builtin.ping one")


@pytest.mark.parametrize(
    ("role", "class_"),
    [
        ("node", "infrastructure"),
        ("engine_env", "infrastructure"),
        ("wheel", "configuration"),
        ("model", "configuration"),
        ("service", "infrastructure"),
        ("", "configuration"),
        ("another", "unknown"),
    ],
)
def test_the_role_says_whose_it_is(role: str, class_: str) -> None:
    (failure,) = playbooks.explain(outcome(task(role=role)), "provision", None)
    assert failure.class_ == class_
    assert failure.evidence == "one: port 1 is held"


def test_what_cannot_run_here_is_unsupported() -> None:
    message = "one: unsupported: services can only run\n as processes so far"
    (failure,) = playbooks.explain(outcome(task(role="service", message=message)), "deploy", None)
    assert (failure.class_, failure.evidence) == ("unsupported", "services can only run as processes so far")


def test_a_message_that_names_its_node_is_not_given_it_twice() -> None:
    (failure,) = playbooks.explain(outcome(task(message="one: port 1 is held")), "provision", None)
    assert failure.evidence == "one: port 1 is held"


def test_a_service_that_died_is_the_products_with_its_last_words() -> None:
    (failure,) = playbooks.explain(outcome(ready_failure("Traceback", "ValueError: bad")), "deploy", "org/model")
    assert (failure.class_, failure.check) == ("product", "services_ready")
    assert failure.evidence == (
        "service decode on two died: exit status 1, 3 s after its start; last lines of /run/decode.log:\n"
        "Traceback\nValueError: bad"
    )


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("OSError: [Errno 98] Address already in use", "port"),
        ("[Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use", "port"),
        ("E1121 10:57:06 http_metadata_server.cpp:121] Failed to start HTTP metadata server on 0.0.0.0:18080", "port"),
        ("OSError: [Errno 28] No space left on device", "space"),
        ("RuntimeError: Cannot allocate memory", "memory"),
        ("MemoryError", "memory"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", "memory"),
    ],
)
def test_a_service_that_died_of_its_node_is_not_the_products(words: str, hint: str) -> None:
    (failure,) = playbooks.explain(outcome(ready_failure("Traceback", words)), "deploy", None)
    assert failure.class_ == "infrastructure"
    assert hint in failure.hint


def test_every_failure_is_told_in_their_order() -> None:
    failures = playbooks.explain(outcome(ready_failure(), task(node="three")), "deploy", None)
    assert [failure.check for failure in failures] == ["services_ready", "deploy"]
