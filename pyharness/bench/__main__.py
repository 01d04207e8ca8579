"""The program behind make bench: python -m pyharness.bench."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import paths
from pyharness.bench import chart, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.bench.measure import Size

_SIZES = (2, 8, 32, 64)


def main(arguments: Sequence[str]) -> int:
    """Measure, and write bench.json and bench.svg.

    Args:
        arguments: the program's words.

    Returns:
        the exit code: 2 if a run did not pass.
    """
    options = _parser().parse_args(arguments)
    folder: Path = options.out
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    runs: list[measure.Run] = []
    try:
        measure.one_run(
            min(options.nodes), folder / "runs"
        )  # builds what is kept in the caches, and counts for nothing
        # Round by round, so that a machine that is slower for a while is slower for every size.
        for number in range(1, options.runs + 1):
            for nodes in options.nodes:
                run = measure.one_run(nodes, folder / "runs")
                runs.append(run)
                sys.stderr.write(f"{number} of {options.runs}: {nodes} nodes {run.seconds:.1f} s\n")
    except measure.BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    others = {name: function(folder) for name, function in measure.MEASURES.items()}
    sizes = measure.summarise(runs)
    (folder / "bench.json").write_text(json.dumps(measure.document(runs, others), indent=2) + "\n", encoding="utf-8")
    (folder / "bench.svg").write_text(chart.svg(sizes), encoding="utf-8")
    sys.stdout.write(table(sizes) + f"{folder / 'bench.json'} {folder / 'bench.svg'}\n")
    return 0


def _even(text: str) -> int:
    if not text.isdigit() or int(text) < 2 or int(text) % 2:  # a prefill and a decode node
        message = f"{text} has to be an even number from 2 on: half of the nodes are prefill nodes"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        message = f"{text} has to be a number from 1 on"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pyharness.bench", description="Measure what the harness costs.")
    parser.add_argument("--nodes", type=_even, nargs="+", default=list(_SIZES), help="default: 2 8 32 64")
    parser.add_argument("--runs", type=_count, default=3, help="of each number of nodes; default: 3")
    parser.add_argument("--out", type=Path, default=paths.PROJECT / "run" / "bench", help="default: run/bench")
    return parser


def table(sizes: list[Size]) -> str:
    """Return the medians as a table that a person reads."""
    names = list(dict.fromkeys(name for size in sizes for name in size.phases))
    head = ["nodes", "seconds", "ratio", "s/node", "cpu s", "own s", "MiB", *names]
    rows = [
        [
            str(size.nodes),
            f"{size.seconds:.1f}",
            f"{size.ratio:.2f}",
            f"{size.seconds_per_node:.2f}",
            f"{size.cpu_seconds:.1f}",
            f"{size.own_seconds:.1f}",
            f"{size.harness_mib:.0f}",
            *(f"{size.phases.get(name, 0.0):.1f}" for name in names),
        ]
        for size in sizes
    ]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
