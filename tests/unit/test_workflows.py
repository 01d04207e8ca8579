"""What GitHub runs: with the least rights, with actions that nobody can exchange, with no caller's text in a shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

WORKFLOWS = sorted((paths.PROJECT / ".github" / "workflows").glob("*.yml"))
NAMES = [path.stem for path in WORKFLOWS]


@pytest.fixture(params=WORKFLOWS, ids=NAMES)
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param.read_text())


def jobs(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from yaml.safe_load(text)["jobs"].items()


def steps(text: str) -> Iterator[dict[str, Any]]:
    for _name, job in jobs(text):
        yield from job["steps"]


def test_the_workflows_are_there() -> None:
    assert NAMES == ["ci", "gate", "nightly"]


def test_actions_are_pinned_to_a_commit_with_their_version(text: str) -> None:
    uses = re.findall(r"\buses: (\S+)(.*)", text)
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_an_action_has_one_version_everywhere() -> None:
    used = {action for path in WORKFLOWS for action in re.findall(r"\buses: (\S+)@", path.read_text())}
    pinned = {line for path in WORKFLOWS for line in re.findall(r"\buses: (.+)", path.read_text())}
    assert len(pinned) == len(used)


def test_rights_are_given_job_by_job(text: str) -> None:
    assert yaml.safe_load(text)["permissions"] == {}
    for name, job in jobs(text):
        write = {right for right, value in job["permissions"].items() if value == "write"}
        assert write == ({"statuses", "pull-requests"} if name == "verdict" else set())
        assert job["timeout-minutes"] > 0


def test_what_runs_a_pull_requests_code_may_not_write() -> None:
    gate = (paths.PROJECT / ".github" / "workflows" / "gate.yml").read_text()
    permissions = dict(jobs(gate))["a10"]["permissions"]
    assert permissions == {"contents": "read", "actions": "read"}
    assert "pull_request:" not in gate.partition("\njobs:")[0].partition("\n  workflow_call:")[0]
    assert "pull_request_target" not in gate


def test_nothing_of_a_caller_is_pasted_into_a_shell(text: str) -> None:
    scripts = [step["run"] for step in steps(text) if "run" in step]
    assert scripts
    assert [script for script in scripts if "${{" in script] == []


def test_checkouts_keep_no_token(text: str) -> None:
    checkouts = [step for step in steps(text) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert [step for step in checkouts if step["with"].get("persist-credentials") is not False] == []


def test_results_are_uploaded_whatever_happens(text: str) -> None:
    uploads = [step for step in steps(text) if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert uploads
    for step in uploads:
        assert step["if"].startswith("always()")
        assert step["with"]["include-hidden-files"] is True


def test_what_is_made_can_be_made(text: str) -> None:
    makefile = (paths.PROJECT / "Makefile").read_text()
    targets = {target for _name, job in jobs(text) for target in _targets(job)}
    for target in targets | set(re.findall(r"run: make (\S+)$", text, flags=re.MULTILINE)) - {'"$TARGET"'}:
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), f"the Makefile has no {target}"


def _targets(job: dict[str, Any]) -> list[str]:
    return list(job.get("strategy", {}).get("matrix", {}).get("target", []))


def test_the_gate_takes_the_same_by_hand_and_by_call() -> None:
    gate = yaml.safe_load((paths.PROJECT / ".github" / "workflows" / "gate.yml").read_text())[True]
    called, by_hand = gate["workflow_call"]["inputs"], gate["workflow_dispatch"]["inputs"]
    assert by_hand["where"].pop("options") == ["a10", "tone"]
    by_hand["where"]["type"] = "string"
    assert called == by_hand
