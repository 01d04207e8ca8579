"""The command line: python -m pyharness TEST_CASE… and a few verbs."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import ahead, github, paths, redaction, refusals, selection, verdict_lines
from pyharness import arguments as common
from pyharness.errors import UsageError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.results import Report

# Verbs with arguments of their own: each is a module with main(arguments). Loaded only where it is needed.
_VERBS = {
    "list": "pyharness.listing",
    "new": "pyharness.scaffold",
    "teardown": "pyharness.teardown",
    "plan": "pyharness.plan",
    "doctor": "pyharness.doctor",
    "report": "pyharness.reporting",
    "history": "pyharness.trends",
    "compare": "pyharness.comparison",
    "bench": "pyharness.loadtest.cli",
    "lab": "pyharness.lab.cli",
    "artifact": "pyharness.artifacts",
    "tone": "pyharness.tone",
    "gate": "pyharness.gate",
}

_EPILOG = """\
verbs (each says more with --help):
  list                 the test cases, with what each needs and how long it took here
  new TEST_CASE        the files of a new test case
  plan TEST_CASE       what a run would start on which node, without touching any
  doctor               what the hosts of an inventory lack, and how to get it
  report [--open]      the page of a run, made anew from its results
  history [TEST_CASE]  the runs on this machine: what came of each, and the trend
  compare A B          what is not the same in two runs
  bench TEST_CASE      how its deployment does under load (what the harness itself costs: make bench)
  lab up|down|status   two hosts over ssh, as containers of this machine
  artifact             the GitHub Actions artifact of a commit
  gate, tone           what the GitHub workflow that gates a pull request is made of (docs/ci.md)
  teardown [--run ID]  end what runs left on the nodes (default: what was brought up by hand, and every run that
                       could not be torn down)

exit codes: 0 pass, 1 fail (the product is wrong), 2 error or usage (the test could not judge)
"""


_MOST_REPEATS = 1000


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser(
        prog="python -m pyharness",
        description="Deploy a test case on its nodes, verify it, ask it, and say what that proves.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="*", metavar="TEST_CASE", help="one or more test cases, or a verb")
    common.add_selection(parser)
    common.add_inventory(parser)
    parser.add_argument(
        "--wheel", metavar="FILE|URL|VERSION|artifact:ID", help="the Mooncake wheel to test; default: the inventory's"
    )
    common.add_choice_of_trials(parser)
    parser.add_argument("--results", type=Path, default=Path("run"), metavar="DIR", help="default: run/")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the results folder, from what is not done"
    )
    parser.add_argument(
        "--repeat", type=_times, default=1, metavar="N", help="run each test case N times; mixed is flaky"
    )
    parser.add_argument(
        "--allow-known-flakes", action="store_true", help="exit code 0 for a flake that is recorded and has not run out"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for nodes that another run has; default: give up at once",
    )
    parser.add_argument("--keep", action="store_true", help="leave the last deployment up")
    common.add_extra_vars(parser)
    parser.add_argument("--json", action="store_true", help="print the report instead of the verdict line")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")
    return parser


def _times(text: str) -> int:
    """Read a number of runs.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_REPEATS:
        raise argparse.ArgumentTypeError(f"{text!r} has to be a number from 1 to {_MOST_REPEATS}")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


_seconds.__name__ = "number of seconds"  # argparse names it when it refuses a value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what stands after the program's name; default is the process's own.

    Returns:
        the exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    redaction.learn_environment(os.environ)
    with redaction.guarded_streams():
        return _guarded(given)


def _guarded(given: list[str]) -> int:
    try:
        paths.use_project_ansible()
        if given and given[0] in _VERBS:
            return int(importlib.import_module(_VERBS[given[0]]).main(given[1:]))
        options = _parser().parse_args(given)
        with ahead.reading_inventory(options.inventory):
            return _run(options)
    except UsageError as error:
        if not (given and given[0] in _VERBS):
            refusals.withdraw(given, error)
        sys.stderr.write(f"error: {one_line(error)}\n")
        return 2


def _run(options: argparse.Namespace) -> int:
    from pyharness import repeats, suite  # noqa: PLC0415 (Ansible is loaded only where it is needed)
    from pyharness.options import Options  # noqa: PLC0415

    if not options.what and options.suite is None and options.markers is None:
        raise UsageError("name a TEST_CASE, or choose by --suite or -m; see: python -m pyharness --help")
    names = selection.select(options.what, options.suite, options.markers, options.model)
    started = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            sys.stderr.write(github.harmless(f"{time.monotonic() - started:6.1f} s  {text}\n"))
            sys.stderr.flush()

    wanted = Options(
        test_case=names[0],
        inventory=options.inventory,
        results=options.results,
        wheel=options.wheel,
        models=tuple(options.model),
        variants=tuple(options.variant),
        keep=options.keep,
        resume=options.resume,
        wait=options.wait,
        repeat=options.repeat,
        allow_known_flakes=options.allow_known_flakes,
        extra_vars=common.extra_vars(options.extra_vars),
        tell=tell,
    )
    say = verdict_lines.as_json if options.json else verdict_lines.as_text

    def told(report: Report) -> None:
        text = say(report, wanted)
        sys.stdout.write(text if options.json else github.harmless(text))
        github.annotate(report, sys.stderr if options.json else sys.stdout)

    if len(names) == 1 and options.suite is None:
        report = repeats.run_case(wanted)
        told(report)
        if mistake := verdict_lines.refusal(report):
            sys.stderr.write(f"error: {one_line(mistake)}\n")
        github.summarize([report])
        return repeats.exit_code(report, wanted)
    return suite.run(names, wanted, told, summary=not options.json)
