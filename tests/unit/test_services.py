"""The services that answer are those that this run deployed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pyharness import exercise
from pyharness.verification.base import CheckFailed
from pyharness.verification.services import died, services_are_ours
from tests.unit.builders import PIDS, RUN, FakeNodes, make_service, make_trial

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def seen(kind: str) -> dict[str, Any]:
    """Return what a node tells of a service that is as it should be, listening in a child."""
    pid = PIDS[kind]
    own = {"pid": pid, "state": "S", "run": RUN, "started_at": 1000.4, "command": f"python -m {kind}"}
    address = make_service(kind).address
    return {
        "process": own,
        "pids": [pid, pid + 1000],
        "listeners": [{"port": 1, "address": address, "process": {**own, "pid": pid + 1000}}],
    }


def found() -> dict[str, dict[str, Any]]:
    return copy.deepcopy(
        {
            "one": {"services": {"prefill": seen("prefill"), "router": seen("router")}},
            "two": {"services": {"decode": seen("decode")}},
        }
    )


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Return what the servers answer to who they serve, by URL; a test may change it."""
    models = json.dumps({"data": [{"id": "org/model"}]})
    bodies: dict[str, str | None] = {f"http://127.0.0.4{last}:30001/v1/models": models for last in (1, 2)}

    def get(url: str, _timeout: float) -> exercise.Exchange:
        body = bodies[url]
        problem = "connection refused" if body is None else None
        return exercise.Exchange("GET", url, None, 200 if body else None, {}, body, problem, 0.1)

    monkeypatch.setattr(exercise, "get", get)
    return bodies


def refused(answer: dict[str, dict[str, Any]], *dead: str) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        services_are_ours(make_trial(FakeNodes(answer, dead=dead)))
    return caught.value


def test_services_as_deployed_are_ours() -> None:
    evidence = services_are_ours(make_trial(FakeNodes(found())))
    assert evidence["decode"] == {
        "node": "two",
        "run": RUN,
        "pid": 102,
        "started_at": 1000.4,
        "socket": "127.0.0.42:30001",
        "socket_owner": 1102,
        "models": ["org/model"],
    }
    assert "models" not in evidence["router"]


@pytest.mark.parametrize("process", [None, {"pid": 102, "state": "Z", "run": None, "started_at": 1000.0}])
def test_one_that_has_ended_is_told_with_its_last_words(process: dict[str, Any] | None) -> None:
    answer = found()
    answer["two"]["services"]["decode"]["process"] = process
    failure = refused(answer)
    assert failure.class_ == "product"
    assert str(failure).splitlines()[-1] == "last words of decode"
    assert failure.evidence["tail"] == ["last words of decode"]


@pytest.mark.parametrize("change", [{"run": "another"}, {"run": None}, {"started_at": 1002.0}, {"started_at": 998.0}])
def test_another_process_under_its_id_is_not_ours(change: dict[str, Any]) -> None:
    answer = found()
    answer["two"]["services"]["decode"]["process"].update(change)
    failure = refused(answer)
    assert str(failure).startswith("pid 102 on two is not the decode that this run started")
    assert (failure.class_, failure.spoils_judgement) == ("infrastructure", True)


def test_anothers_socket_is_not_ours() -> None:
    answer = found()
    stranger = {"pid": 666, "command": "nc -l 30001"}
    answer["two"]["services"]["decode"]["listeners"][0]["process"] = stranger
    failure = refused(answer)
    assert str(failure).startswith("127.0.0.42:30001 on two is answered by pid 666 (nc -l 30001), not by the decode")
    assert (failure.class_, failure.spoils_judgement) == ("infrastructure", True)


def test_a_stranger_beside_ours_is_not_ours() -> None:
    answer = found()
    answer["two"]["services"]["decode"]["listeners"].append({"port": 1, "address": "0.0.0.0", "process": None})
    assert "answered by a process of another user or nobody" in str(refused(answer))


def test_nobodys_socket_is_not_ours() -> None:
    answer = found()
    answer["two"]["services"]["decode"]["listeners"] = []
    assert "answered by a process of another user or nobody" in str(refused(answer))


def test_another_model_spoils_the_judgement(served: dict[str, str | None]) -> None:
    served["http://127.0.0.42:30001/v1/models"] = json.dumps({"data": [{"id": "a"}, {"id": "b"}]})
    failure = refused(found())
    assert str(failure) == "decode on two serves a, b, not org/model"
    assert (failure.class_, failure.spoils_judgement) == ("configuration", True)


@pytest.mark.parametrize(
    ("body", "said"), [(None, "connection refused"), ("<html>", "Expecting value"), ("[]", "/v1/models gave []")]
)
def test_a_server_that_does_not_say_its_model(served: dict[str, str | None], body: str | None, said: str) -> None:
    served["http://127.0.0.42:30001/v1/models"] = body
    failure = refused(found())
    assert str(failure).startswith(f"decode on two does not say which model it serves: {said}")
    assert failure.class_ == "product"


def test_a_server_that_ended_meanwhile_is_told_as_ended(served: dict[str, str | None]) -> None:
    served["http://127.0.0.42:30001/v1/models"] = None
    assert "service decode on two (pid 102) has ended since it was ready" in str(refused(found(), "decode"))


def test_the_failure_of_an_ended_service_names_its_log() -> None:
    seen: list[tuple[Any, ...]] = []
    noted = make_trial(
        FakeNodes({}), happened=lambda *what, **where: seen.append((what[0], where["service"], where["ok"]))
    )
    failure = died(noted, make_service("decode"))
    assert seen == [("fault", "decode", False)], "the timeline shows when it was noticed"
    assert "/var/log/decode.log" in str(failure)
    assert failure.evidence["pid"] == 102


def test_a_service_that_went_down_with_its_node_is_not_the_products_failure() -> None:
    service = make_service("decode")
    failure = died(make_trial(FakeNodes({"two": {"up_since": service.started_at + 60}})), service)
    assert (failure.class_, failure.spoils_judgement) == ("infrastructure", True)
    assert "two was restarted 60 s after decode had been started there" in str(failure)
    before = FakeNodes({"two": {"up_since": service.started_at - 60}})
    assert died(make_trial(before), service).class_ == "product"
