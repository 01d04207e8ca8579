"""What the phases of one run share: what was asked for, where it runs, and what has come of it so far."""

from __future__ import annotations

import errno
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pyharness import facts, history, results, unfinished, wheel_source
from pyharness.classification.playbooks import explain as explain_playbook
from pyharness.errors import UsageError
from pyharness.inputs import Inputs
from pyharness.interrupt import Interrupt, Interrupted
from pyharness.journal import NAME as JOURNAL
from pyharness.journal import Journal
from pyharness.lease import Leases
from pyharness.playbook import PlaybookRunner
from pyharness.verification.node_probe import NodeError, Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyharness.case import TestCase, TrialName
    from pyharness.deployment import Deployment
    from pyharness.lifecycle.resume import Earlier
    from pyharness.options import Options
    from pyharness.playbook import Outcome
    from pyharness.results import Check
    from pyharness.results_dir import ResultsDir

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class GiveUp(Exception):  # noqa: N818
    """The rest of the run makes no sense; the failures say why."""


class Run:
    """One run.

    Args:
        options: what is asked for.
        case: the declaration.
        folder: takes the results.
        earlier: the run that this one goes on with; None for a new one.
    """

    def __init__(self, options: Options, case: TestCase, folder: ResultsDir, earlier: Earlier | None = None) -> None:
        self.options, self.case, self.folder, self.earlier = options, case, folder, earlier
        self.run_id = earlier.report.run_id if earlier else results.new_run_id()
        self.interrupt = Interrupt()
        self.trials = case.trials(options.models, options.variants)
        self.models = list(dict.fromkeys(trial.model for trial in self.trials if trial.model))
        self.report = results.Report(
            test_case=case.test_case,
            run_id=self.run_id,
            started_at=results.now(),
            inventory=str(options.inventory),
            engine={"name": case.engine},
            models=[results.ModelResult(name=trial.model, variant=trial.variant) for trial in self.trials],
            transport=results.TransportUse(declared=case.transport),
        )
        if earlier:
            earlier.restore(self.report)
        self.deployed: list[Deployment] = []
        # What has been deployed before its turn, by the playbook that provisioned; None where it did not come up.
        self.ahead: dict[TrialName, Deployment | None] = {}
        self.started = time.monotonic()
        self.journal = Journal(folder.root / JOURNAL)
        (folder.logs / "ansible").mkdir(exist_ok=True)
        self.nodes = Nodes(options.inventory)
        self.playbooks = PlaybookRunner(options.inventory, folder.logs / "ansible", self.interrupt.is_set)
        took = history.median(case.test_case, options.inventory, [str(trial) for trial in self.trials])
        expected = took[0] if took else None
        self.leases = Leases(
            self.nodes, self.run_id, case.test_case, expected, options.tell, extra_vars=options.extra_vars
        )
        self.leases.on_lost = self.interrupt.stop
        self.touched_nodes = False
        # Whether the nodes have been asked what they say to a run that is not going to pass.
        self.diagnosed = False
        # Run ids of engines that answer alone and have not been taken down yet.
        self.single_runs: list[str] = []

    def begin(self) -> None:
        """Write down that the run begins, and find out what its phases depend on.

        Raises:
            UsageError: the results folder takes no file, or an input cannot be read.
        """
        try:
            self.inputs = Inputs(self.options, self.case)
            facts.begin(self.run_id)
            self.journal.note(
                "run",
                run=self.run_id,
                test_case=self.case.test_case,
                inventory=str(self.options.inventory.resolve()),
                harness=unfinished.own_identity(),
                resumed=self.earlier is not None,
            )
        except OSError as error:
            reason = f"{error.strerror}: {error.filename or self.folder.root}"
            raise UsageError(
                f"the run cannot begin ({reason}); make room, or let this user read and write it"
            ) from error

    def guarded(self, part: Callable[[], None]) -> UsageError | None:
        """Run a part of the run. Whatever ends it early is a failure: what is left unsaid would read as a pass.

        Returns:
            what the caller asked for and cannot have; None if that was not it.
        """
        try:
            part()
        except UsageError as error:
            return error
        except (GiveUp, Interrupted):
            pass  # their failures are in the report, or will be
        except NodeError as error:
            unseen = failure("infrastructure", "run", str(error), "see whether the node is up")
            self.report.failures.append(unseen.model_copy(update={"unfit_node": error.node}))
        except Exception as error:  # noqa: BLE001 (the run has to end in a verdict, and nothing be left on the nodes)
            self.report.failures.append(_broken(error))
        return None

    @contextmanager
    def phase(self, name: str, trial: str | None = None) -> Iterator[results.Phase]:
        """Time a phase, and note that it begins before anything of it happens.

        Args:
            name: the phase.
            trial: which trial it is about, as a person reads it; None for the whole run.

        Raises:
            Interrupted: the run is to end.
            OSError: the journal cannot be written.
        """
        self.interrupt.check()
        inputs = self.inputs.of(name)
        self.journal.note("phase", name=name, trial=trial, status="begun", inputs=inputs)
        status = "failed"
        try:
            with self.timed(name, trial) as phase:
                yield phase
            status = "ok"
        finally:
            with suppress(OSError):  # then it counts as not done
                self.journal.note("phase", name=name, trial=trial, status=status, inputs=inputs)

    @contextmanager
    def timed(self, name: str, trial: str | None = None) -> Iterator[results.Phase]:
        """Time a phase that takes place whatever has happened."""
        self.options.tell(f"{name}{f' {trial}' if trial else ''}")
        phase = results.Phase(name=name, trial=trial, status="failed", started_at=results.now(), seconds=0.0)
        self.report.phases.append(phase)
        at, started = time.time(), time.monotonic()
        try:
            yield phase
            phase.status = "ok"
        finally:
            phase.seconds = round(time.monotonic() - started, 3)
            self.happened("phase", name, at=at, trial=trial, seconds=phase.seconds, ok=phase.status == "ok")

    def happened(self, kind: results.EventKind, text: str, *, at: float, **details: Any) -> None:
        """Put an event on the timeline.

        Args:
            kind: what happened.
            text: it in words.
            at: when, in seconds since the epoch.
            details: the other fields of `results.Event`.
        """
        self.report.timeline.append(results.Event(at=round(at, 3), kind=kind, text=text, **details))

    def variables(self) -> dict[str, Any]:
        """Return the variables that every playbook of the run is given."""
        variables: dict[str, Any] = {
            "disagg_run": self.run_id,
            "disagg_hosts": ":".join(self.case.nodes),
            "disagg_provisioned_file": str(facts.provisioned(self.run_id)),
            "models": self.models,
        }
        if self.options.wheel is not None:
            variables["disagg_wheel"] = wheel_source.parse(self.options.wheel).variable
        return {**variables, **self.leases.variables(), **self.options.extra_vars}

    def play(self, phase: str, outcome: Outcome, trial: str | None = None) -> None:
        """Go on if a playbook went well.

        Raises:
            GiveUp: it did not; the report has its failures.
            Interrupted: the run is to end.
        """
        self.interrupt.check()
        failures = explain_playbook(outcome, phase, trial)
        self.report.failures += failures
        if failures:
            raise GiveUp

    def remember(self, reason: str = "") -> None:
        """Keep on this machine that the run's nodes are not clean."""
        kept = self.options.keep and not self.interrupt.is_set()
        with suppress(OSError):  # a full disk here is no reason to leave the nodes as they are
            unfinished.note(self.report, self.options.inventory, self.case.nodes, kept=kept, reason=reason)

    def tell_check(self, check: Check, message: str) -> None:
        """Tell a person what came of a check."""
        first = message.splitlines()[0] if message else ""
        self.options.tell(f"  {check.status:<7} {check.id}{f': {first}' if first else ''}")


def failure(class_: results.FailureClass, check: str, evidence: str, hint: str) -> results.Failure:
    """Return a failure that leaves nothing to judge."""
    return results.Failure(class_=class_, check=check, evidence=evidence, hint=hint, spoils_judgement=True)


def _broken(error: Exception) -> results.Failure:
    """Return the failure that an unforeseen error is: the machine's where there is no room, the harness's otherwise."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        told = f"{error.strerror}: {error.filename or 'the results folder'}"
        return failure("infrastructure", "run", told, "make room on this machine (df -h, df -i), and run again")
    told = f"{type(error).__name__}: {error}"
    return failure("test", "run", told, "this is a defect of the harness; report it")
