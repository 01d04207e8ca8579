"""The harness as a library, and pytest's fixture: as the documentation shows it, on the simulated engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import NotDeployed, Options, UsageError, deployed, paths, run_case

if TYPE_CHECKING:
    from pyharness import Deployed, Report
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]

GUIDE = paths.PROJECT / "docs" / "library.md"
QWEN = ("Qwen/Qwen3-8B",)


def example(title: str) -> str:
    """Return the first piece of Python after a heading of the guide."""
    _before, _heading, section = GUIDE.read_text(encoding="utf-8").partition(f"## {title}\n")
    found = re.search(r"```python\n(.+?)```", section, re.DOTALL)
    assert found, f"{GUIDE}: no example after {title!r}"
    return found[1]


def options(site: Site, **changes: object) -> Options:
    values = {"inventory": site.inventory, "results": site.results, "models": QWEN, **changes}
    return Options("test_1p1d_erdma", **values)  # type: ignore[arg-type]


def on_this_site(text: str, site: Site) -> str:
    assert '"inventories/lab"' in text
    return text.replace('"inventories/lab"', repr(str(site.inventory))).replace('"results"', repr(str(site.results)))


def run_ids(site: Site) -> list[str]:
    return [found["run"] for found in node_state.run_processes() if site.prefill in found["command"]]


def test_the_guides_examples_of_a_run_and_of_a_deployment(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    texts = [on_this_site(example(title), site) for title in ("A run", "A deployment")]
    program.write_text("\n\n".join(texts))

    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "who does not ask for progress is told nothing"
    assert "pass" in done.stdout
    assert "HTTP 200" in done.stdout
    assert run_ids(site) == []


def test_the_guides_example_of_a_pytest_module(site: Site, tmp_path: Path) -> None:
    module = tmp_path / "test_mine.py"
    module.write_text(
        example("A pytest fixture") + "\n\ndef test_that_fails(deployed_case):\n    assert not deployed_case.url\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", module.name]
    command += [f"--disagg-inventory={site.inventory}", f"--disagg-results={site.results}"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert f"results of the deployment: {site.results / 'test_1p1d_erdma'}" in done.stdout
    assert len(list((site.results / "test_1p1d_erdma" / "logs" / "ansible").glob("deploy-*.log"))) == 1, (
        "all three share it"
    )
    assert site.result()["status"] == "Fail", "the checks of the test case were not made"
    assert run_ids(site) == []


def test_a_run_in_another_thread_after_a_deployment_whose_caller_failed(site: Site) -> None:
    before, folder = dict(os.environ), Path.cwd()
    seen: list[Deployed] = []
    reports: list[Report] = []

    def fail(up: Deployed) -> None:
        assert up.ended() == []
        assert up.host("prefill").file(up.services["prefill"].log).exists
        seen.append(up)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), deployed(options(site)) as running:
        fail(running)
    (up,) = seen
    assert run_ids(site) == []
    assert [check.status for check in up.report.checks if check.id == "nodes_clean"] == ["pass"]

    def work() -> None:
        reports.append(run_case(options(site)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (report,) = reports
    assert report.verdict == "pass", report.failures
    assert (dict(os.environ), Path.cwd()) == (before, folder)


def test_what_does_not_come_up_is_said_and_taken_down(site: Site) -> None:
    broken = options(site, extra_vars={"disagg_misbehave": {"decode": ["die-before-ready"]}})
    with pytest.raises(NotDeployed, match="services_ready: service decode on decode") as caught, deployed(broken):
        pytest.fail("it is not up")
    assert caught.value.report.verdict != "pass"
    assert (caught.value.results / "report.json").is_file()
    assert run_ids(site) == []


def test_what_cannot_be_asked_for_is_a_usage_error_and_nothing_is_begun(site: Site) -> None:
    with pytest.raises(UsageError, match="--model org/none"), deployed(options(site, models=("org/none",))):
        pytest.fail("it is not up")
    assert site.result()["status"] == "Fail"
