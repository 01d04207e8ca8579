"""A world for whole runs without Ansible or nodes: stand-ins for playbooks, nodes and checks, which keep count."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pyharness import lifecycle, options
from pyharness.from_collection import lease
from pyharness.playbook import Outcome, Turn
from tests.unit.builders import make_deployment, write_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.results import Report
    from pyharness.verification.base import Trial

CASE = "test_1p1d_erdma"
MODELS = ["Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V2-Lite"]
DEPLOYS = [f"deploy-{model.replace('/', '__')}" for model in MODELS]
GOOD = Outcome("successful", [], "", 0.1)


class World:
    """Nodes, playbooks and checks of a run. A test changes what they do before it runs.

    Attributes:
        played: labels of the playbooks that ran, in their order.
        variables: what each playbook was given, by label.
        outcomes: how playbooks end, by label; well where nothing is said.
        on: called when the playbook of that label, or a check, is reached.
    """

    def __init__(self, folder: Path) -> None:
        self.results = folder / "run"
        self.wheel = write_wheel(folder, {"mooncake/engine.so": b"x"})
        self.inventory = folder / "inventory"
        self.inventory.touch()
        self.played: list[str] = []
        self.variables: dict[str, dict[str, Any]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.on: dict[str, Callable[[], None]] = {}
        self.left: list[dict[str, Any]] = []
        self.method: str | None = None
        self.runner_learns = True
        self.told: list[str] = []

    # -- in place of PlaybookRunner

    def runner(self, _inventory: Path, _logs: Path, _cancelled: Callable[[], bool]) -> World:
        return self

    def run(
        self, playbook: str, variables: dict[str, Any], *, label: str, turn: Turn | None = None, **_options: Any
    ) -> Outcome:
        outcome = self._play(playbook, variables, label)
        if label == "provision" and self.runner_learns and outcome.ok:
            Path(variables["disagg_provisioned_file"]).write_text("{}")
        if turn is not None and outcome.ok:
            turn.begun()
            outcome = self._play(playbook, variables, turn.label)
        return outcome

    def _play(self, playbook: str, variables: dict[str, Any], label: str) -> Outcome:
        self.played.append(label)
        self.variables[label] = {**variables, "playbook": playbook}
        self.on.get(label, lambda: None)()
        outcome = self.outcomes.get(label, GOOD)
        if playbook == "teardown.yml" and outcome.ok and not variables["disagg_keep_lease"]:
            for file in (self.results.parent / "leases").glob("*.json"):
                lease.release(str(file), variables["disagg_run"], [file.stem])
        if "disagg_deployment_file" in variables and outcome.ok:
            model = {"name": variables["disagg_model"], "path": "/m", "revision": "r1", "config": None}
            wheel = {"file": str(self.wheel), "sha256": "0", "version": "1.0", "source": "file"}
            deployment = make_deployment(
                run_id=variables["disagg_run"],
                test_case=CASE,
                model={**model, "stand_in": None},
                wheel={**wheel, "package": "demo", "directory": "/overlay"},
            )
            Path(variables["disagg_deployment_file"]).write_text(deployment.model_dump_json())
        return outcome

    # -- in place of Nodes

    def nodes(self, _inventory: Path) -> World:
        return self

    def load(self) -> None:
        self.on.get("load", lambda: None)()

    def names(self, _groups: list[str]) -> list[str]:
        self.on.get("names", lambda: None)()
        return ["one", "two"]

    def variable(self, node: str, name: str) -> str | None:
        known = {
            "disagg_reference": self.method,
            "ansible_connection": "local",
            "ansible_host": node,
            "disagg_lease_dir": str(self.results.parent / "leases"),
        }
        return known.get(name)

    def run_python(self, _node: str, script: str) -> dict[str, Any]:
        told: list[str] = []
        exec(script, {"print": told.append})  # noqa: S102 (as the node's own Python would)
        return dict(json.loads(told[0]))

    def platform(self, _groups: list[str]) -> str | None:
        return None

    def host(self, _name: str) -> SimpleNamespace:
        return SimpleNamespace(run=lambda _command: SimpleNamespace(stdout="sglang-0.5.23.dist-info\n"))

    def probe(self, _services: Any, *, nodes: list[str], run: str) -> dict[str, dict[str, Any]]:
        assert run.startswith("2")
        return {
            node: {"run_processes": self.left, "run_containers": [], "services": {}, "shared_memory": []}
            for node in nodes
        }

    def ended(self, services: list[Any]) -> list[Any]:
        return services[:1]

    # -- in place of the checks

    def verify(self, trial: Trial) -> bool:
        def look() -> dict[str, Any]:
            self.on.get("verify", lambda: None)()
            return {"model": trial.deployment.served.name}

        return trial.recorder.run("services_are_ours", look)

    def exercise(self, trial: Trial) -> None:
        self.send, self.trial = trial.send, trial
        trial.transport.used = "tcp"
        self.on.get("exercise", lambda: None)()

        def look() -> dict[str, Any]:
            self.on.get("answer_correct", lambda: None)()
            return {"text": "hello"}

        trial.recorder.run("answer_correct", look)

    # -- the run

    def live(self, **changes: Any) -> Report:
        given: dict[str, Any] = {"test_case": CASE, "inventory": self.inventory, "results": self.results}
        given["tell"] = self.told.append
        return lifecycle.run_case(options.Options(**{**given, **changes}))

    def written(self, name: str = "report.json") -> Any:
        return json.loads((self.results / CASE / name).read_text())
