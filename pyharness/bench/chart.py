"""The chart of a benchmark: a bar per number of nodes, with a part per phase, as one SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader

from pyharness import paths

if TYPE_CHECKING:
    from pyharness.bench.measure import Size

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 300, 56, 40
_BAR = 0.55
# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")


def svg(sizes: list[Size]) -> str:
    """Return the chart.

    Args:
        sizes: what `summarise` made of the runs; at least one.
    """
    names = list(dict.fromkeys(name for size in sizes for name in size.phases))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    most = max(size.seconds for size in sizes)
    step = _WIDTH / len(sizes)
    bars = []
    for place, size in enumerate(sizes):
        y, parts = _TOP + _HEIGHT + 0.0, []
        for name, seconds in size.phases.items():
            height = seconds / most * _HEIGHT
            y -= height
            parts.append({"name": name, "seconds": seconds, "y": y, "height": height, "colour": colours[name]})
        x = _LEFT + place * step + step * (1 - _BAR) / 2
        bars.append({"size": size, "x": x, "middle": x + step * _BAR / 2, "top": y, "parts": parts})
    loader = FileSystemLoader(paths.PROJECT / "pyharness" / "templates")
    template = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return template.get_template("bench.svg.j2").render(
        bars=bars, colours=colours, most=most, width=_WIDTH, height=_HEIGHT, left=_LEFT, top=_TOP, bar=step * _BAR
    )
