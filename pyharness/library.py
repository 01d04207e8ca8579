"""A deployment to work on from Python: brought up as a run brings it up, and taken down whatever happens.

What is public of it is exported by `pyharness`; see docs/library.md.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness import case as cases
from pyharness import describe, paths, refusals
from pyharness.errors import UsageError, one_line
from pyharness.lifecycle import finish, provisioning, teardown, trials
from pyharness.lifecycle.run import GiveUp, Run, failure
from pyharness.results_dir import ResultsDir
from pyharness.verification import services as services_check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testinfra.host import Host

    from pyharness.case import TestCase, TrialName
    from pyharness.deployment import Deployment, Service
    from pyharness.exercise import Exchange
    from pyharness.options import Options
    from pyharness.results import Report
    from pyharness.verification.base import Trial
    from pyharness.verification.node_probe import Nodes

_NOT_JUDGED = "brought up for its caller's own assertions: the checks of the test case were not made"


class NotDeployed(Exception):  # noqa: N818 (what came of it, as the verdict of a run is)
    """A test case could not be brought up, or its nodes not be left clean.

    Attributes:
        report: says why, and what to do; it is in the results folder too.
        results: that folder.
    """

    def __init__(self, report: Report, results: Path) -> None:
        first = report.failures[0]
        super().__init__(one_line(f"{first.check}: {first.evidence}; {first.hint}; {results / 'report.json'}"))
        self.report, self.results = report, results


@dataclass(frozen=True)
class Deployed:
    """A deployment that is up, and whose processes have been proven to be the ones that were started for it.

    Attributes:
        case: the test case as it is declared.
        trial: which model in which variant is up.
        deployment: what Ansible says of it: services, addresses, ports, logs, versions.
        nodes: takes evidence on the nodes.
        results: the folder of its report and logs. The services' logs are there once it is down.
        report: as far as it is known yet.
    """

    case: TestCase
    trial: TrialName
    deployment: Deployment
    nodes: Nodes
    results: Path
    report: Report
    _subject: Trial = field(repr=False)

    @property
    def url(self) -> str:
        """The URL that clients ask, without a path: the router's, where there is one."""
        return self.deployment.entry

    @property
    def services(self) -> dict[str, Service]:
        """The services by name, each with its node, URL, process id and log."""
        return {service.name: service for service in self.deployment.services}

    def host(self, node: str) -> Host:
        """Return testinfra's host of a node, to look at files, processes, sockets there.

        Args:
            node: its name in the inventory, such as a service's `node`.
        """
        return self.nodes.host(node)

    def ask(
        self, body: dict[str, Any] | None = None, *, path: str | None = None, timeout_seconds: float | None = None
    ) -> Exchange:
        """Send a request, watch the services meanwhile, and keep the exchange with the results.

        Args:
            body: sent as JSON; default is the body that the test case declares.
            path: of the URL; default is the declared request's.
            timeout_seconds: for the whole exchange; default is the declared request's.

        Returns:
            the exchange: status, headers, body, or the problem that there was instead.

        Raises:
            UsageError: something is left out that the test case does not declare.
        """
        if body is None or path is None or timeout_seconds is None:
            asked = self.case.asked
            body, path = asked.body if body is None else body, asked.path if path is None else path
            timeout_seconds = asked.timeout_seconds if timeout_seconds is None else timeout_seconds
        return self._subject.send(self.url + path, body, timeout_seconds)

    def ended(self) -> list[Service]:
        """Return the services of whose processes one has ended."""
        return self.nodes.ended(self.deployment.services)


@contextmanager
def deployed(options: Options, trial: TrialName | None = None) -> Iterator[Deployed]:
    """Bring a test case up, hand it over, and take it down.

    It is deployed as a run deploys it, on nodes that are leased and proven fit, and handed over once its processes have
    been proven to be its own. Whatever happens in the block, it is taken down afterwards and the nodes are proven
    clean. The report's verdict is `error`, never `pass`: what the test case is for has not been checked.

    Args:
        options: what to bring up; `keep`, `resume` and `repeat` mean nothing here.
        trial: which of its trials; default is the first of those that `options` chooses.

    Raises:
        UsageError: what is asked for cannot be done.
        NotDeployed: it did not come up, or, where the block went well, the nodes could not be left clean.
        KeyboardInterrupt: a signal came while it was brought up or taken down; it is down.
    """
    with paths.project_ansible(), ExitStack() as until_the_end:
        run = _begin(options)
        chosen = trial or run.trials[0]
        if chosen not in run.trials:
            raise _refuse(run, UsageError(f"{chosen}: {run.case.test_case} has {', '.join(map(str, run.trials))}"))
        handed_over: list[Deployed] = []
        error: UsageError | None = None
        try:
            with run.interrupt.armed():
                error = run.guarded(lambda: handed_over.append(_bring_up(run, chosen, until_the_end)))
            if handed_over and not run.interrupt.is_set():
                run.report.failures.append(failure("test", "not_judged", _NOT_JUDGED, "see the caller's own result"))
                yield handed_over[0]
        finally:
            left = len(run.report.failures)
            with run.interrupt.armed():
                unclean = run.guarded(lambda: teardown.tear_down(run))
                finish.finish(run, error or unclean)
        _tell_how_it_ended(run, error, came_up=bool(handed_over), clean=len(run.report.failures) == left)


def _begin(options: Options) -> Run:
    """Have a run that has not touched anything yet."""
    try:
        case = cases.load(options.test_case)
    except UsageError as error:
        refusals.withdraw_one(options.test_case, options.results, error)
        raise
    run = Run(options, case, ResultsDir(options.results, options.test_case))
    run.folder.begin(run.report)
    try:
        options.check(case)
        run.begin()
    except UsageError as error:
        raise _refuse(run, error) from error
    return run


def _refuse(run: Run, error: UsageError) -> UsageError:
    finish.finish(run, error)
    return error


def _bring_up(run: Run, trial: TrialName, until_the_end: ExitStack) -> Deployed:
    """Have one trial up, and prove that what answers is it."""
    provisioning.take_nodes(run)
    until_the_end.enter_context(run.leases.kept_alive())
    provisioning.clean_up_after_the_dead(run)
    provisioning.provision(run, trial)
    # Compared with nothing: so no engine need answer alone before.
    deployment = trials.deploy(run, trial, "none", None)
    result = run.report.models[run.trials.index(trial)]
    describe.fill_in(run.report, result, deployment, run.nodes, run.case.packages)
    subject = trials.subject_of(run, deployment, result)
    # Dynamo's workers speak no OpenAI: its frontend lists the model, once they have found each other.
    kinds = () if run.case.engine == "dynamo" else services_check.SERVING
    with run.phase("verify", str(trial)):
        if not subject.recorder.run("services_are_ours", lambda: services_check.services_are_ours(subject, kinds)):
            raise GiveUp
    return Deployed(run.case, trial, deployment, run.nodes, run.folder.root, run.report, subject)


def _tell_how_it_ended(run: Run, error: UsageError | None, *, came_up: bool, clean: bool) -> None:
    """Raise what the caller has to know; the block itself went well, or has not begun."""
    if error is not None and not run.touched_nodes:
        raise error
    if run.interrupt.signal_name is not None:
        raise KeyboardInterrupt(run.interrupt.signal_name)
    if not came_up or not clean:
        raise NotDeployed(run.report, run.folder.root)
