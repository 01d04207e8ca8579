"""The lab's registry has what it is given; an engine's environment is built once. Or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pyharness import environments
from pyharness.errors import UsageError
from pyharness.lab import environment, registry
from pyharness.lab.model import Lab
from pyharness.playbook import Outcome, TaskFailure
from tests.unit.fake_docker import FakeDocker

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

DIGEST = f"sha256:{'7' * 64}"


def client(engine: FakeDocker) -> DockerClient:
    """Return the fake where the SDK's class is declared."""
    fake: Any = engine
    return fake


def test_a_push_that_the_registry_does_not_take_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeDocker()
    made.tags["it:1"] = "id"
    monkeypatch.setattr(registry, "serves", lambda *_arguments: None)
    made.push_events = [{"status": "Preparing"}, {"error": "no space left on device"}]
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:5077/disagg/it:1 could not be pushed: no space left on device"):
        registry.push(client(made), Lab(cache=tmp_path), "id", "disagg/it", "1")
    made.push_events = []
    with pytest.raises(UsageError, match="does not serve it"):
        registry.push(client(made), Lab(cache=tmp_path), "id", "disagg/it", "1")


def test_what_the_registry_has_is_not_pushed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeDocker()
    monkeypatch.setattr(registry, "serves", lambda *_arguments: DIGEST)
    assert registry.push(client(made), Lab(cache=tmp_path), "not even there", "disagg/it", "1") == DIGEST


def test_a_registry_that_does_not_answer_has_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr("requests.get", refuse)
    monkeypatch.setattr("requests.head", refuse)
    monkeypatch.setattr(registry, "_READY_SECONDS", 0.2)
    made = FakeDocker()
    assert registry.serves(Lab(cache=tmp_path), "disagg/it", "1") is None
    with pytest.raises(UsageError, match=r"no answer on 127\.0\.0\.1:5077"):
        registry.have(client(made), Lab(cache=tmp_path), "image")


def play(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, found: dict[str, str]) -> list[dict[str, Any]]:
    """Let the playbook that builds environments end in an outcome, and return what it is given."""
    played: list[dict[str, Any]] = []

    class Runner:
        def __init__(self, *_arguments: Any) -> None:
            pass

        def run(self, _playbook: str, variables: dict[str, Any], **_options: Any) -> Outcome:
            played.append(variables)
            if outcome.ok:
                Path(variables["environment_file"]).parent.mkdir(parents=True, exist_ok=True)
                Path(variables["environment_file"]).write_text(json.dumps(found))
            return outcome

        def close(self) -> None:
            pass

    monkeypatch.setattr(environments, "PlaybookRunner", Runner)
    monkeypatch.setattr("pyharness.paths.use_project_ansible", lambda: None)
    return played


def test_ansible_is_asked_for_an_environment_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(cache=tmp_path)
    packages = lab.environments / "sglang-cpu-1/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (lab.environments / "path-1").mkdir()
    found = {"directory": str(packages.parents[2]), "path_dir": str(lab.environments / "path-1")}
    played = play(monkeypatch, Outcome("successful", [], "", 1.0), found)
    first = environment.have(lab, "sglang", lambda _text: None)
    assert environment.have(lab, "sglang", lambda _text: None) == first
    assert len(played) == 1
    assert played[0]["disagg_cache_dir"] == str(tmp_path)
    (lab.environments / "path-1").rmdir()
    environment.have(lab, "sglang", lambda _text: None)
    assert len(played) == 2


def test_an_environment_that_cannot_be_built_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = TaskFailure("prefill", "Build", "engine_env", "pip ended with 1")
    play(monkeypatch, Outcome("failed", [failure], "", 1.0), {})
    with pytest.raises(UsageError, match="environment simulator could not be built: pip ended with 1"):
        environment.have(Lab(cache=tmp_path), "simulator", lambda _text: None)
    play(monkeypatch, Outcome("failed", [], "[ERROR]: no such playbook\n", 1.0), {})
    with pytest.raises(UsageError, match="no such playbook"):
        environment.have(Lab(cache=tmp_path), "simulator", lambda _text: None)
