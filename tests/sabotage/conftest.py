"""Runs of the main job, each on addresses of its own, so that several workers can run them side by side."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import paths
from pyharness.lifecycle import run_case
from pyharness.options import Options
from tests.fault_bench import fault_model, faults_at  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyharness.results import Report

QWEN = "Qwen/Qwen3-8B"
CASE = "test_1p1d_erdma"
LEDGER = paths.PROJECT / "run" / "sabotage.tsv"


@dataclass
class Site:
    """Two logical nodes that one test has to itself.

    Attributes:
        inventory: the inventory's folder.
        results: folder for results.
        prefill: address of the prefill node.
        decode: address of the decode node.
        reports: the reports of the runs so far.
    """

    inventory: Path
    results: Path
    prefill: str
    decode: str
    name: str
    reports: list[Report] = field(default_factory=list)

    def run(self, case: str = CASE, **options: Any) -> Report:
        """Run the main job with one model, or another case, and check what holds for every run.

        That is: the files agree, and nothing is left.
        """
        if case == CASE:
            options.setdefault("models", (QWEN,))
        report = run_case(Options(test_case=case, inventory=self.inventory, results=self.results, **options))
        self.reports.append(report)
        self._note(report)
        written = json.loads((self.results / case / "report.json").read_text())
        assert written["verdict"] == report.verdict
        result = self.result(case)
        assert result["status"] == ("Pass" if report.verdict == "pass" else "Fail")
        assert set(result) == {"test_case", "status", "timestamp"}
        return report

    def result(self, case: str = CASE) -> dict[str, str]:
        """Return test_results.json."""
        return dict(json.loads((self.results / case / "test_results.json").read_text()))

    def left(self) -> list[dict[str, Any]]:
        """Return the processes that the runs of this site have left."""
        return [found for report in self.reports for found in node_state.run_processes(report.run_id)]

    def processes(self, service: str) -> list[dict[str, Any]]:
        """Return the living processes of a service of the run that is under way on this site."""
        found = node_state.run_processes()
        runs = {entry["run"] for entry in found if self.prefill in entry["command"] or self.decode in entry["command"]}
        return [entry for entry in found if entry["run"] in runs and entry["service"] == service]

    def _note(self, report: Report) -> None:
        """Keep a list of sabotaged runs and their verdicts, for people."""
        first = report.failures[0] if report.failures else None
        at = next((phase for phase in reversed(report.phases) if phase.name != "teardown"), None)
        line = [
            self.name,
            report.verdict,
            ", ".join(dict.fromkeys(failure.check for failure in report.failures)) or "-",
            first.class_ if first else "-",
            f"{at.name} {at.seconds:.1f} s" if at else "-",
            first.evidence.splitlines()[0][:160] if first else "",
        ]
        LEDGER.parent.mkdir(exist_ok=True)
        with LEDGER.open("a", encoding="utf-8") as stream:
            stream.write("\t".join(line) + "\n")


def _site(tmp_path: Path, request: pytest.FixtureRequest, source: str) -> Iterator[Site]:
    paths.use_project_ansible()
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    # Of its own for every session too: two of them may run on one machine.
    session = zlib.crc32(os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid())).encode()) % 250 + 2
    prefill, decode = f"127.{session}.{worker}.1", f"127.{session}.{worker}.2"
    inventory = tmp_path / "inventory"
    shutil.copytree(paths.INVENTORIES / source / "group_vars", inventory / "group_vars")
    (inventory / "hosts.yml").write_text(
        "all:\n  children:\n"
        f"    prefill_nodes: {{hosts: {{prefill: {{ansible_host: {prefill}}}}}}}\n"
        f"    decode_nodes: {{hosts: {{decode: {{ansible_host: {decode}}}}}}}\n"
    )
    site = Site(inventory, tmp_path / "results", prefill, decode, request.node.name)
    yield site
    assert site.left() == []


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have the model that a site's runs serve before the first of them."""
    if "site" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.needs_model(QWEN))


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep sabotaged runs out of the history of who runs the tests."""
    monkeypatch.setenv("DISAGG_E2E_HISTORY", str(tmp_path / "history.sqlite"))


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Return a site with the simulated engine, real Mooncake and the real router."""
    yield from _site(tmp_path, request, "simulator")


@pytest.fixture
def real_site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Return a site with real SGLang on the CPU."""
    yield from _site(tmp_path, request, "local")
