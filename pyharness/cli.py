"""The command line: python -m pyharness TEST_CASE… and a few verbs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from pyharness import case as cases
from pyharness import paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.results import Report

_EPILOG = """\
verbs:
  list                 the test cases, with what each needs
  teardown [--run ID]  end what a run left on the nodes (default: what was brought up by hand)

exit codes: 0 pass, 1 fail (the product is wrong), 2 error or usage (the test could not judge)
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see: python -m pyharness --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pyharness",
        description="Deploy a test case on its nodes, verify it, ask it, and say what that proves.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="+", metavar="TEST_CASE", help="one or more test cases, or a verb")
    parser.add_argument(
        "-i", "--inventory", type=Path, default=paths.DEFAULT_INVENTORY, help="default: inventories/local"
    )
    parser.add_argument("--wheel", metavar="FILE|VERSION", help="the Mooncake wheel to test; default: the inventory's")
    parser.add_argument(
        "--model", action="append", default=[], metavar="M", help="only this declared model; repeatable"
    )
    parser.add_argument("--results", type=Path, default=Path("run"), metavar="DIR", help="default: run/")
    parser.add_argument("--keep", action="store_true", help="leave the last deployment up")
    parser.add_argument(
        "-e",
        "--extra-vars",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a variable of the playbooks (YAML)",
    )
    parser.add_argument("--json", action="store_true", help="print the report instead of the verdict line")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")
    parser.add_argument("--run", default="manual", metavar="ID", help="teardown: the run; 'all' for every run found")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what stands after the program's name; default is the process's own.

    Returns:
        the exit code.
    """
    try:
        options = _parser().parse_args(arguments)
        paths.use_project_ansible()
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
    """End what a run left on the nodes of an inventory."""
    from pyharness import diagnosis  # noqa: PLC0415 (Ansible is loaded only where it is needed)
    from pyharness.playbook import PlaybookRunner  # noqa: PLC0415

    _inventory(options.inventory)
    with tempfile.TemporaryDirectory(prefix="disagg-e2e-") as logs:
        runner = PlaybookRunner(options.inventory, Path(logs), lambda: False)
        try:
            variables = {"disagg_run": options.run, "disagg_logs_to": str((options.results / options.run).resolve())}
            variables |= _extra_vars(options.extra_vars)
            outcome = runner.run("teardown.yml", variables, label="teardown", timeout=300, patient=True)
        finally:
            runner.close()
    for failure in diagnosis.explain(outcome, "teardown", None):
        sys.stderr.write(f"error: {failure.evidence}; {failure.hint}\n")
    if outcome.ok:
        sys.stdout.write(f"nothing of run {options.run} is left\n")
    return 0 if outcome.ok else 2


def _inventory(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"-i {path}: there is no such inventory; there is, for one, inventories/local")


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
                keep=options.keep,
                extra_vars=_extra_vars(options.extra_vars),
                tell=tell,
            )
        )
        _print(report, options)
        worst = max(worst, EXIT_CODES[report.verdict])
    return worst


def _extra_vars(pairs: list[str]) -> dict[str, Any]:
    result = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise UsageError(f"-e {pair}: has to be KEY=VALUE, with the value in YAML")
        try:
            result[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"-e {key}: the value is no YAML: {error}") from error
    return result


def _print(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        sys.stdout.write(json.dumps(report.to_json(), indent=2) + "\n")
        return
    for failure in report.failures:
        about = f" ({failure.model})" if failure.model else ""
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
