"""After teardown nothing of the run is left."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness.verification.base import CheckFailed
from pyharness.verification.clean import nodes_clean
from tests.unit.builders import RUN, FakeNodes, as_nodes, make_deployment

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SERVICES = make_deployment().services
MEMORY = "/dev/shm"  # noqa: S108 (nothing is made there)
OURS = f"{MEMORY}/ours"


def process(pid: int, run: str | None = RUN) -> dict[str, Any]:
    return {"pid": pid, "run": run, "service": "decode", "command": "python -m decode"}


def answer(
    processes: list[dict[str, Any]],
    owners: list[dict[str, Any] | None],
    containers: list[dict[str, Any]],
    memory: Any = None,
) -> dict[str, dict[str, Any]]:
    listeners = [{"port": 30001, "address": "127.0.0.42", "process": owner} for owner in owners]
    return {
        "one": {"run_processes": [], "run_containers": [], "services": {}, "shared_memory": []},
        "two": {
            "run_processes": processes,
            "run_containers": containers,
            "services": {"decode": {"listeners": listeners}},
            "shared_memory": memory or [],
        },
    }


def check(
    processes: list[dict[str, Any]],
    owners: list[dict[str, Any] | None],
    containers: list[dict[str, Any]] | None = None,
    memory: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    nodes = FakeNodes(answer(processes, owners, containers or [], memory))
    services = [service.model_copy(update={"shared_memory": [OURS]}) for service in SERVICES]
    evidence = nodes_clean(as_nodes(nodes), ["one", "two"], RUN, services, {"two": [f"{MEMORY}/old"]})
    assert nodes.asked[0]["run"] == RUN
    assert nodes.asked[0]["nodes"] == ["one", "two"]
    assert {service.pid for service in nodes.asked[0]["services"]} == {0}, "the ids may be another process's by now"
    return evidence


def test_clean_nodes_are_clean() -> None:
    evidence = check([], [])
    assert evidence["processes"] == 0
    assert evidence["ports_checked"] == ["127.0.0.41:30001", "127.0.0.41:8000", "127.0.0.42:30001"]


def test_what_another_run_has_is_not_ours_to_complain_of() -> None:
    assert check([], [process(5, "another")])


@pytest.mark.parametrize("owner", [process(5, None), None], ids=["no mark", "not to be seen"])
def test_a_port_that_is_still_held_is_left_though_its_owner_has_no_mark(owner: dict[str, Any] | None) -> None:
    with pytest.raises(CheckFailed, match=r"1 process\(es\) of the run are left on two") as caught:
        check([], [owner])
    assert "by hand" in caught.value.hint


def test_a_process_that_is_left_is_named_with_the_way_out() -> None:
    with pytest.raises(CheckFailed) as caught:
        check([process(7), process(8)], [process(7)])
    assert str(caught.value) == (
        "2 process(es) of the run are left on two after teardown, first: pid 7 (decode): python -m decode"
    )
    assert caught.value.hint.endswith(f"teardown --run {RUN}")
    assert caught.value.class_ == "infrastructure"
    assert caught.value.evidence == {"left": {"two": [process(7), process(8)]}}


def test_a_socket_that_is_left_is_found_by_its_owner() -> None:
    with pytest.raises(CheckFailed, match=r"1 process\(es\) of the run are left on two"):
        check([], [process(9)])


def test_a_container_that_is_left_is_named_though_nothing_runs_in_it() -> None:
    container = {"name": "disagg-e2e-x-two-decode", "run": RUN, "service": "decode", "state": "exited"}
    with pytest.raises(CheckFailed) as caught:
        check([], [], [container])
    assert "container disagg-e2e-x-two-decode (exited)" in str(caught.value)


def file(name: str, *, mapped: bool = False) -> dict[str, Any]:
    return {"path": f"{MEMORY}/{name}", "bytes": 4096, "user_id": 0, "since": 1.0, "mapped": mapped, "run": None}


def test_shared_memory_of_the_run_that_nobody_has_mapped_is_left() -> None:
    with pytest.raises(CheckFailed, match=r"4096 bytes of shared memory in /dev/shm/ours, which no process has mapped"):
        check([], [], memory=[file("ours")])


def test_what_is_new_in_shared_memory_and_may_be_anybodys_is_evidence() -> None:
    evidence = check([], [], memory=[file("ours", mapped=True), file("old"), file("new")])
    assert evidence["shared_memory_checked"] == [OURS]
    assert evidence["new_shared_memory"] == {"two": [OURS, f"{MEMORY}/new"]}
