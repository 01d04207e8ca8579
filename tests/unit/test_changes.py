"""What is not the same in two runs."""

from __future__ import annotations

from typing import Any

import pytest

from pyharness import changes
from tests.unit.builders import make_check, make_report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def document(**values: Any) -> dict[str, Any]:
    return make_report(**{"verdict": "pass", **values}).to_json()


def model(status: str = "pass", revision: str = "r1") -> dict[str, Any]:
    checks = [make_check(), {**make_check("kv_cache_moved").model_dump(), "status": status}]
    return {"name": "org/model", "served": {"path": "/m", "revision": revision, "stand_in": None}, "checks": checks}


def found(green: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str, Any, Any]]:
    return [(change.kind, change.name, change.before, change.after) for change in changes.between(green, now)]


def test_two_runs_that_are_alike() -> None:
    assert changes.between(document(), document(run_id="another")) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"verdict": "fail"}, ("verdict", "run", "pass", "fail")),
        ({"artifacts": {"wheel": {"sha256": "b"}, "image": None}}, ("wheel", "sha256", "a", "b")),
        ({"versions": {"torch": "2", "nvidia-driver": "1"}}, ("version", "torch", "1", "2")),
        ({"versions": {"torch": "1", "nvidia-driver": "2"}}, ("driver", "nvidia-driver", "1", "2")),
        ({"versions": {"torch": None, "nvidia-driver": "1"}}, ("version", "torch", "1", "none")),
        ({"models": [model(revision="r2")]}, ("model", "org/model revision", "r1", "r2")),
        ({"models": [model("fail")]}, ("check", "org/model: kv_cache_moved", "pass", "fail")),
        ({"engine": {"name": "sglang", "platform": "cuda"}}, ("engine", "platform", "cpu", "cuda")),
        ({"transport": {"declared": "tcp", "used": "rdma"}}, ("transport", "used", "tcp", "rdma")),
        (
            {"artifacts": {"wheel": {"sha256": "a"}, "image": {"ref": "r", "digest": "y"}}},
            ("image", "digest", "x", "y"),
        ),
        ({"checks": [make_check("nodes_clean", "fail")]}, ("check", "run: nodes_clean", None, "fail")),
    ],
)
def test_what_has_changed_is_told(values: dict[str, Any], expected: tuple[str, str, Any, Any]) -> None:
    same = {
        "artifacts": {"wheel": {"sha256": "a"}, "image": {"ref": "r", "digest": "x"}},
        "versions": {"torch": "1", "nvidia-driver": "1"},
        "models": [model()],
        "engine": {"name": "sglang", "platform": "cpu"},
        "transport": {"declared": "tcp", "used": "tcp"},
    }
    assert found(document(**same), document(**{**same, **values})) == [expected]


def test_what_a_run_did_not_get_to_is_no_change() -> None:
    green = document(
        versions={"torch": "1"},
        artifacts={"wheel": {"sha256": "a"}, "image": None},
        models=[model()],
        transport={"declared": "tcp", "used": "tcp"},
    )
    assert found(green, document(models=[{"name": "org/model"}], engine={"name": "sglang"})) == []


def test_durations_stand_side_by_side_with_their_ratio() -> None:
    green = document(timing={"total": 20.0, "engine_start": 9.0, "inference": 0.1, "own": 10.9})
    now = document(timing={"total": 30.0, "engine_start": 9.5, "inference": 0.4, "own": 5.0})
    took = {change.name: (change.ratio, change.notable) for change in changes.timings(green, now)}
    assert took == {"total": (1.5, True), "engine_start": (1.056, False), "own": (0.459, True)}


def test_each_is_told_in_a_line() -> None:
    assert changes.Change("wheel", "sha256", "a", "b").told() == "wheel sha256: a before, b now"
    told = changes.Change("timing", "total", 20.0, 30.0, 1.5).told()
    assert told == "total: 20.0 s before, 30.0 s now (1.50 times)"
