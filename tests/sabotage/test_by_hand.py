"""The same deployment brought up by hand, with ansible-playbook alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import exercise, paths, results
from pyharness.deployment import read

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.ansible]


def play(site: Site, playbook: str, *variables: str) -> list[int]:
    """Run a playbook. Returns how many tasks changed something, per node."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(site.inventory)]
    command += [str(paths.PLAYBOOKS / playbook), *(word for pair in variables for word in ("-e", pair))]
    done = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return [int(changed) for changed in re.findall(r"changed=(\d+)", done.stdout)]


def test_it_comes_up_answers_changes_nothing_the_second_time_and_goes(site: Site) -> None:
    run = results.new_run_id()
    file = site.results / "deployment.json"
    variables = (f"disagg_run={run}", f"disagg_deployment_file={file}", f"disagg_logs_to={site.results / 'logs'}")

    try:
        first = play(site, "test_1p1d_erdma.yml", *variables)
        deployment = read(file)
        body = {"text": "Once", "sampling_params": {"temperature": 0}}
        answer = exercise.post(f"{deployment.entry}/generate", body, 30)
        second = play(site, "test_1p1d_erdma.yml", *variables)
        unchanged = read(file)
    finally:
        gone = play(site, "teardown.yml", *variables)

    assert all(first)
    assert answer.status == 200, answer.transcript()
    assert second == [0, 0]
    assert unchanged == deployment
    assert all(gone)
    assert node_state.run_processes(run) == []
    assert (site.results / "logs" / "prefill.tar.gz").is_file()
