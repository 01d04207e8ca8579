"""A node that cannot be reached any more, from each phase on: an error of the infrastructure that names it.

The other node is clean afterwards, and once the node is back `teardown` cleans it too. The same over a network of its
own, with hosts that go down, is in tests/lab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from ansible_collections.disagg.e2e.plugins.module_utils import node_state
from pyharness import cli, unfinished
from tests.sabotage.ssh_node import SshNode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]
requires = "sshd"

PHASES = ("provision", "deploy", "verify", "exercise", "teardown")


@pytest.fixture
def far(site: Site) -> Iterator[SshNode]:
    """Return the decode node of the site, reached over ssh."""
    node = SshNode(site.decode, site.results.parent / "ssh")
    hosts = yaml.safe_load((site.inventory / "hosts.yml").read_text())
    hosts["all"]["children"]["decode_nodes"]["hosts"]["decode"] = node.variables
    (site.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    yield node
    node.stop()


def cases() -> list[object]:
    """Return each phase with each way to go: refusing before a merge where it costs little, hanging every night."""
    found: list[object] = [None]
    for phase in PHASES:
        early = phase in ("deploy", "teardown")
        found.append(pytest.param(phase, "drop", marks=pytest.mark.pre_merge if early else pytest.mark.nightly))
        found.append(pytest.param(phase, "freeze", marks=pytest.mark.nightly))
    return found[1:]


@pytest.mark.parametrize(("phase", "how"), cases())
def test_a_node_that_goes_is_named_and_all_else_is_cleaned(phase: str, how: str, site: Site, far: SshNode) -> None:
    gone: list[str] = []

    def tell(text: str) -> None:
        if text.startswith(phase) and not gone:
            gone.append(text)
            getattr(far, how)()

    report = site.run(tell=tell)
    left = node_state.run_processes(report.run_id)
    far.drop()
    far.start()
    again = cli.main(["teardown", "-i", str(site.inventory), "--results", str(site.results)])

    assert gone, report.failures
    assert report.verdict == "error"
    first = report.failures[0]
    assert (first.class_, first.unfit_node) == ("infrastructure", "decode"), report.failures
    assert "decode" in first.evidence
    assert all(failure.hint for failure in report.failures)
    assert {found["node"] for found in left} <= {"decode"}, "what could be reached was not cleaned"
    assert bool(left) == (phase in ("verify", "exercise", "teardown")) or phase == "deploy"
    assert again == 0
    assert node_state.run_processes(report.run_id) == []
    assert report.run_id not in {entry.run for entry in unfinished.remembered(site.inventory)}


@pytest.mark.nightly
def test_a_node_that_never_answered_is_named_before_anything_is_begun(site: Site, far: SshNode) -> None:
    far.drop()
    report = site.run()
    assert report.verdict == "error"
    assert (report.failures[0].class_, report.failures[0].unfit_node) == ("infrastructure", "decode")
    assert {phase.name for phase in report.phases} <= {"provision", "teardown"}


@pytest.mark.pre_merge
def test_a_node_over_ssh_that_stays_passes(site: Site, far: SshNode) -> None:
    assert far
    report = site.run()
    assert report.verdict == "pass", report.failures
