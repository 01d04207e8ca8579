"""The command line: python -m pyharness TEST_CASE… and a few verbs."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import arguments as common
from pyharness import paths, selection, verdict_lines
from pyharness.errors import UsageError
from pyharness.results import EXIT_CODES

if TYPE_CHECKING:
    from collections.abc import Sequence

# Verbs with arguments of their own: each is a module with main(arguments). Loaded only where it is needed.
_VERBS = {
    "list": "pyharness.listing",
    "new": "pyharness.scaffold",
    "teardown": "pyharness.teardown",
    "plan": "pyharness.plan",
    "doctor": "pyharness.doctor",
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
  lab up|down|status   two hosts over ssh, as containers of this machine
  artifact             the GitHub Actions artifact of a commit
  gate, tone           what the GitHub workflow that gates a pull request is made of (docs/ci.md)
  teardown [--run ID]  end what runs left on the nodes (default: what was brought up by hand, and every run that
                       could not be torn down)

exit codes: 0 pass, 1 fail (the product is wrong), 2 error or usage (the test could not judge)
"""


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
    parser.add_argument("--keep", action="store_true", help="leave the last deployment up")
    common.add_extra_vars(parser)
    parser.add_argument("--json", action="store_true", help="print the report instead of the verdict line")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what stands after the program's name; default is the process's own.

    Returns:
        the exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        paths.use_project_ansible()
        if given and given[0] in _VERBS:
            return int(importlib.import_module(_VERBS[given[0]]).main(given[1:]))
        return _run(_parser().parse_args(given))
    except UsageError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2


def _run(options: argparse.Namespace) -> int:
    from pyharness import lifecycle, suite  # noqa: PLC0415 (Ansible is loaded only where it is needed)
    from pyharness.options import Options  # noqa: PLC0415

    if not options.what and options.suite is None and options.markers is None:
        raise UsageError("name a TEST_CASE, or choose by --suite or -m; see: python -m pyharness --help")
    names = selection.select(options.what, options.suite, options.markers, options.model)
    started = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {text}\n")
            sys.stderr.flush()

    wanted = Options(
        test_case=names[0],
        inventory=options.inventory,
        results=options.results,
        wheel=options.wheel,
        models=tuple(options.model),
        variants=tuple(options.variant),
        keep=options.keep,
        extra_vars=common.extra_vars(options.extra_vars),
        tell=tell,
    )
    say = verdict_lines.as_json if options.json else verdict_lines.as_text
    if len(names) == 1 and options.suite is None:
        report = lifecycle.run_case(wanted)
        sys.stdout.write(say(report, wanted))
        return EXIT_CODES[report.verdict]
    return suite.run(names, wanted, lambda report: sys.stdout.write(say(report, wanted)), summary=not options.json)
