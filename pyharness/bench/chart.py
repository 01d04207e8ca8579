"""The chart of the harness's own benchmark: a bar per number of nodes, with a part per phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness import bars

if TYPE_CHECKING:
    from pyharness.bench.measure import Size


def svg(sizes: list[Size]) -> str:
    """Return the chart.

    Args:
        sizes: what `summarise` made of the runs; at least one.
    """
    return bars.svg(
        "Life cycle of test_xpyd on the simulated engine, by number of nodes",
        "Life cycle of test_xpyd on the simulated engine: seconds by phase, median",
        "s",
        [
            bars.Bar(
                size.phases,
                f"{size.seconds:.1f} s, x {size.ratio:.1f}",
                (f"{size.nodes} nodes", f"{size.harness_mib:.0f} MiB"),
            )
            for size in sizes
        ],
    )
