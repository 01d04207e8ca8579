"""The command line: python -m pyharness TEST_CASE… and a few verbs."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import arguments as common
from pyharness import case as cases
from pyharness import paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.results import Report

# Verbs with arguments of their own: each is a module with main(arguments). Loaded only where it is needed.
_VERBS = {
    "plan": "pyharness.plan",
    "doctor": "pyharness.doctor",
    "lab": "pyharness.lab.cli",
    "artifact": "pyharness.artifacts",
    "tone": "pyharness.tone",
    "gate": "pyharness.gate",
}

_EPILOG = """\
verbs (each says more with --help):
  list                 the test cases, with what each needs
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
    parser.add_argument("what", nargs="+", metavar="TEST_CASE", help="one or more test cases, or a verb")
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
    parser.add_argument("--run", metavar="ID", help="teardown: only this run; 'all' for every run found")
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
        options = _parser().parse_args(given)
        verb = options.what[0]
        if verb == "list" and len(options.what) == 1:
            return _list()
        if verb == "teardown" and len(options.what) == 1:
            return _teardown(options)
        return _run(options)
    except UsageError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2


def _list() -> int:
    width = max((len(name) for name in cases.names()), default=0)
    for name in cases.names():
        case = cases.load(name)
        sys.stdout.write(f"{name:<{width}}  {case.title}\n{'':<{width}}  ")
        sys.stdout.write(f"{len(case.nodes)} nodes; {', '.join(case.models)}; {' '.join(case.markers)}\n")
    return 0


def _teardown(options: argparse.Namespace) -> int:
    """End what runs left on the nodes of an inventory."""
    from pyharness import unfinished  # noqa: PLC0415 (Ansible is loaded only where it is needed)

    common.check_inventory(options.inventory)
    if options.run is not None:
        return 0 if _take_down(options, options.run) else 2
    left = [entry for entry in unfinished.remembered(options.inventory) if not entry.is_live and not entry.kept]
    # All of them, whatever becomes of one: what could be reached is clean afterwards.
    done = [_take_down(options, run) for run in ("manual", *(entry.run for entry in left))]
    return 0 if all(done) else 2


def _take_down(options: argparse.Namespace, run: str) -> bool:
    from pyharness import diagnosis, unfinished  # noqa: PLC0415
    from pyharness.playbook import PlaybookRunner  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="disagg-e2e-") as logs:
        runner = PlaybookRunner(options.inventory, Path(logs), lambda: False)
        try:
            variables = {"disagg_run": run, "disagg_logs_to": str((options.results / run).resolve())}
            variables |= common.extra_vars(options.extra_vars)
            outcome = runner.run("teardown.yml", variables, label="teardown", timeout=300, patient=True)
        finally:
            runner.close()
    for failure in diagnosis.explain(outcome, "teardown", None):
        sys.stderr.write(f"error: {failure.evidence}; {failure.hint}\n")
    if outcome.ok:
        unfinished.forget(run)
        sys.stdout.write(f"nothing of run {run} is left\n")
    return outcome.ok


def _run(options: argparse.Namespace) -> int:
    from pyharness.lifecycle import run_case  # noqa: PLC0415 (Ansible is loaded only where it is needed)
    from pyharness.options import Options  # noqa: PLC0415
    from pyharness.results import EXIT_CODES  # noqa: PLC0415

    for name in options.what:
        cases.load(name)  # a typo in the third name should not cost two runs
    started = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {text}\n")
            sys.stderr.flush()

    worst = 0
    for name in options.what:
        report = run_case(
            Options(
                test_case=name,
                inventory=options.inventory,
                results=options.results,
                wheel=options.wheel,
                models=tuple(options.model),
                variants=tuple(options.variant),
                keep=options.keep,
                extra_vars=common.extra_vars(options.extra_vars),
                tell=tell,
            )
        )
        _print(report, options)
        worst = max(worst, EXIT_CODES[report.verdict])
    return worst


def _print(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        sys.stdout.write(json.dumps(report.to_json(), indent=2) + "\n")
        return
    for failure in report.failures:
        about = f" ({failure.trial})" if failure.trial else ""
        sys.stdout.write(f"{failure.class_}: {failure.check}{about}: {failure.evidence}\n  -> {failure.hint}\n")
    told = f"{sum(1 for model in report.models if model.verdict == 'pass')} of {len(report.models)} models passed"
    used = f"KV cache over {report.transport.used}" if report.transport.used else "transport not known"
    simulated = "; simulated engine: says nothing about a product" if report.simulated else ""
    where = options.results / report.test_case / "report.json"
    sys.stdout.write(
        f"{report.verdict.upper()} {report.test_case}: {told}, {used}, {report.timing.total:.1f} s{simulated}; "
        f"{where}\n"
    )
    if options.keep:
        sys.stdout.write(f"left up; end it with: python -m pyharness teardown --run {report.run_id}\n")
