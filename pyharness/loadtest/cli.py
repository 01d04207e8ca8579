"""The verb `bench`: bring test cases up, put load on each point of a sweep, and show what was measured."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import arguments as common
from pyharness.errors import UsageError, one_line
from pyharness.interrupt import Interrupt, Interrupted
from pyharness.loadtest import generator, plan, results, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 1_000_000
_MOST_RUNS = 100
_MOST_SEED = 2**31 - 1
_EPILOG = """\
Each combination of --concurrency, --input-tokens and --output-tokens is a point. Of a test case's trials the first is
measured; choose by --model and --variant. aiperf makes the load, in an environment of its own (built once, 0.9 GB).
Results: RESULTS/bench_TEST_CASE/bench.html, bench.json, *.svg and aiperf's own files.

It measures and judges nothing. Exit codes: 0 measured, 2 a point could not be, or usage.
What the harness itself costs is another matter: make bench.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure test cases under load.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code: 2 if a point could not be measured, or a test case not be brought up or taken down.

    Raises:
        UsageError: an argument is wrong.
    """
    options = _parser().parse_args(arguments)
    asked = _asked(options)
    for name in options.test_case:
        sweep.check(name, asked)
    started = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {text}\n")
            sys.stderr.flush()

    tool = generator.have(tell)
    interrupt = Interrupt()
    whole = True
    with interrupt.armed():
        for name in options.test_case:
            try:
                found = sweep.measure(name, asked, tool, tell, interrupt)
            except (Interrupted, KeyboardInterrupt) as stopped:
                sys.stderr.write(f"error: {name}: stopped by {stopped}; what had been measured is in the results\n")
                return 2
            except sweep.NotMeasured as error:
                sys.stderr.write(f"error: {name}: {one_line(error)}\n")
                whole = False
                continue
            whole = _told(found, as_json=options.json) and whole
    return 0 if whole else 2


def _told(found: sweep.Found, *, as_json: bool) -> bool:
    """Print what was measured; say whether every point could be."""
    if as_json:
        sys.stdout.write(json.dumps(found.document, indent=2) + "\n")
    else:
        sys.stdout.write(results.table(results.summarise(found.measures)) + f"{found.folder / 'bench.html'}\n")
    problems = [measure for measure in found.measures if measure.problem]
    for measure in problems:
        point = plan.Point(**measure.point)
        sys.stderr.write(f"error: {found.test_case}: run {measure.run}, {point}: not measured: {measure.problem}\n")
    return not problems


def _parser() -> common.Parser:
    parser = common.parser("bench", "Measure how the deployment of a test case does under load.")
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("test_case", nargs="+", metavar="TEST_CASE", help="each serves a model; see: list")
    common.add_inventory(parser)
    common.add_choice_of_trials(parser)
    add = parser.add_argument
    add("--concurrency", type=_counts, default=[1, 4, 16], metavar="N,N", help="requests at once; default: 1,4,16")
    add("--input-tokens", type=_counts, default=[64, 256], metavar="N,N", help="of each prompt; default: 64,256")
    add("--output-tokens", type=_counts, default=[32], metavar="N,N", help="of each answer; default: 32")
    much = parser.add_mutually_exclusive_group()
    much.add_argument(
        "--requests", type=_count, metavar="N", help="of each point; default: four times its concurrency, at least 20"
    )
    much.add_argument("--seconds", type=_seconds, metavar="S", help="for so long instead")
    add("--runs", type=_runs, default=1, metavar="N", help="of each point; default: 1")
    add("--seed", type=_seed, default=0, metavar="N", help="of the prompts; default: 0")
    add("--results", type=Path, default=Path("run"), metavar="DIR", help="default: run/")
    add("--url", metavar="URL", help="of what is up already and speaks OpenAI's HTTP; nothing is deployed then")
    add("--tokenizer", metavar="DIR|NAME", help="default: the deployed model's folder where it is here, else its name")
    common.add_extra_vars(parser)
    add("--json", action="store_true", help="print bench.json instead of the table")
    add("-q", "--quiet", action="store_true", help="print no progress")
    return parser


def _asked(options: argparse.Namespace) -> sweep.Asked:
    """Put together what is asked for.

    Raises:
        UsageError: it does not go together.
    """
    highest = max(options.concurrency)
    if options.requests is not None and options.requests < highest:
        raise UsageError(
            f"--requests {options.requests}: fewer than concurrency {highest}, which is never reached then"
        )
    return sweep.Asked(
        inventory=options.inventory,
        models=tuple(options.model),
        variants=tuple(options.variant),
        points=plan.points(options.concurrency, options.input_tokens, options.output_tokens),
        load=plan.Load(options.requests, options.seconds),
        runs=options.runs,
        seed=options.seed,
        results=options.results,
        url=options.url,
        tokenizer=options.tokenizer,
        extra_vars=common.extra_vars(options.extra_vars),
    )


def _number(text: str, most: int, least: int = 1) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} has to be a number from {least} to {most}")
    return int(text)


def _count(text: str) -> int:
    return _number(text, _MOST)


def _runs(text: str) -> int:
    return _number(text, _MOST_RUNS)


def _seed(text: str) -> int:
    return _number(text, _MOST_SEED, 0)


def _counts(text: str) -> list[int]:
    """Read numbers with commas between them; one that is named twice counts once.

    Raises:
        ArgumentTypeError: one is none.
    """
    return list(dict.fromkeys(_count(word.strip()) for word in text.split(",")))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} has to be a number of seconds from 1 to {_MOST}")
    return value
