"""Several test cases one after the other: each from clean nodes to clean nodes, and one summary of all.

What provisioning made (environments, images, wheels, models) is kept from case to case; services never are. A node
that a case could not leave clean, or that does not answer, stops the cases that need it, and only those.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pyharness import arguments, github, journal, lifecycle, repeats, summaries
from pyharness import case as cases
from pyharness.errors import UsageError
from pyharness.results import EXIT_CODES, Failure
from pyharness.verification.node_probe import Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyharness.options import Options
    from pyharness.results import Report


def run(names: Sequence[str], options: Options, say: Callable[[Report], object], *, summary: bool = True) -> int:
    """Run test cases, and leave a summary in the results folder: summary.json, summary.html and junit.xml.

    Args:
        names: the test cases in their order.
        options: what is asked for; its test case is replaced by each of the names.
        say: told of each report.
        summary: whether to print the summary too.

    Returns:
        the exit code: that of the worst verdict. A test case of which nothing can run on this platform, as its
        declaration says, is none that failed; where that is all of them, nothing was tested, and it is an error.

    Raises:
        UsageError: the inventory is not there.
    """
    arguments.check_inventory(options.inventory)
    suite = _Suite(options)
    for number, name in enumerate(names, 1):
        options.tell(f"== {number} of {len(names)}: {name}")
        suite.reports.append(suite.run_one(replace(options, test_case=name)))
        say(suite.reports[-1])
        summaries.write(options.results, suite.reports, names)
    if summary:
        sys.stdout.write(github.harmless(summaries.as_text(suite.reports, options.results)))
    github.summarize(suite.reports)
    judged = [report for report in suite.reports if not summaries.only_unsupported(report)]
    return max((repeats.exit_code(report, options) for report in judged), default=EXIT_CODES["error"])


class _Suite:
    def __init__(self, options: Options) -> None:
        self.reports: list[Report] = []
        self._nodes = Nodes(options.inventory)

    def run_one(self, options: Options) -> Report:
        reason = self._reason_not_to(options.test_case)
        if reason is not None:
            return lifecycle.refuse_case(options, reason)
        # What the suite had not begun yet is begun now.
        begun = (options.results / options.test_case / journal.NAME).exists()
        try:
            return repeats.run_case(replace(options, resume=options.resume and begun))
        except UsageError as error:
            # The case has left its own result already, where it got as far; the others may still be run.
            failure = _failure("configuration", "usage", str(error), "correct it and run again")
            return lifecycle.refuse_case(options, failure)

    def _reason_not_to(self, name: str) -> Failure | None:
        interrupted = next((report for report in self.reports if _interrupted(report)), None)
        if interrupted is not None:
            told = f"not run: the suite was ended during {interrupted.test_case}"
            return _failure("test", "interrupted", told, "run it again")
        unfit = {
            failure.unfit_node: (report.test_case, failure)
            for report in self.reports
            for failure in report.failures
            if failure.unfit_node
        }
        if not unfit:
            return None
        needed = self._nodes.names(cases.load(name).nodes)
        for node, (case, failure) in unfit.items():
            if node in needed:
                told = f"not run: {node} is unfit since {case}: {failure.evidence.splitlines()[0]}"
                return _failure("infrastructure", "unfit_node", told, failure.hint)
        return None


def _interrupted(report: Report) -> bool:
    return any(failure.check == "interrupted" for failure in report.failures)


def _failure(class_: str, check: str, evidence: str, hint: str) -> Failure:
    values = {"class": class_, "check": check, "evidence": evidence, "hint": hint, "spoils_judgement": True}
    return Failure.model_validate(values)
