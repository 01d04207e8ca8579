"""deployment.json, the only thing that Ansible hands to Python."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyharness import deployment, paths, versions
from tests.unit.builders import make_deployment, make_service

if TYPE_CHECKING:
    from pyharness.verification.node_probe import Nodes

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(make_deployment().model_dump_json())
    assert deployment.read(path) == make_deployment()


@pytest.mark.parametrize("change", [{"more": 1}, {"services": None}, {"run_id": 7}])
def test_another_form_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps({**make_deployment().model_dump(), **change}))
    with pytest.raises(ValueError, match=next(iter(change))):
        deployment.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        deployment.read(tmp_path / "deployment.json")


@pytest.mark.parametrize(("platform", "simulated"), [("simulator", True), ("cpu", False), ("cuda", False)])
def test_the_simulator_is_known_as_such(platform: str, simulated: bool) -> None:  # noqa: FBT001 (a table's column)
    engine = {"name": "sglang", "platform": platform, "runtime": "process", "environment": "/env"}
    assert make_deployment(engine=engine).simulated is simulated


def test_mooncake_itself_is_real_on_every_inventory() -> None:
    engine = {"name": "mooncake", "platform": "simulator", "runtime": "process", "environment": "/env"}
    assert not make_deployment(engine=engine).simulated


def test_it_starts_with_its_first_service_and_is_ready_with_its_last() -> None:
    services = [
        make_service("prefill", started_at=10.0, ready_at=14.0),
        make_service("decode", started_at=11.0, ready_at=13.0),
        make_service("router", started_at=15.0, ready_at=None),
    ]
    subject = make_deployment(services=[service.model_dump() for service in services])
    assert (subject.started_at, subject.ready_at) == (10.0, 15.0)
    assert [service.name for service in subject.of_kind("decode")] == ["decode"]


LISTING = "sglang\nsglang-0.5.23.dist-info\nsglang_router-0.3.2.dist-info\ntorch-2.13.0+cpu.dist-info\ntorchaudio\n"
LISTING += "kernel=6.1.0-49-amd64\nnvidia-driver=580.95.05\n"


def test_versions_are_those_of_the_engines_environment() -> None:
    asked: list[str] = []

    def run(command: str) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout=LISTING)

    nodes = SimpleNamespace(host=lambda _name: SimpleNamespace(run=run))
    found = versions.of(make_deployment(), cast("Nodes", nodes))
    assert [command.partition(";")[0] for command in asked] == ["ls /env/lib/python3*/site-packages"]
    assert found["demo"] == "1.0"
    assert (found["sglang"], found["sglang-router"], found["torch"]) == ("0.5.23", "0.3.2", "2.13.0+cpu")
    assert found["transformers"] is None
    assert (found["kernel"], found["nvidia-driver"]) == ("6.1.0-49-amd64", "580.95.05")
    assert found["erdma-driver"] is None
    assert found["ansible-core"]


def test_a_models_folder_has_no_slash() -> None:
    assert paths.slug("org/model") == "org__model"


def test_ansible_is_the_projects_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nothing")
    monkeypatch.setenv("ANSIBLE_CONFIG", "/elsewhere")
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", "/elsewhere")
    for _twice in range(2):
        paths.use_project_ansible()
    first, *rest = os.environ["PATH"].split(":")
    assert rest == ["/nothing"]
    assert (Path(first) / "python").exists()
    assert Path(os.environ["ANSIBLE_CONFIG"]).is_file()
    assert (Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections").is_dir()
