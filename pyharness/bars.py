"""Charts of bars, as one SVG each: a bar per measurement, made of parts. Figures and words stand beside the colours."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from pyharness.html_report import style

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 300, 56, 40
# A label below a bar has room for so many units; with more bars the chart becomes wider.
_STEP = 84
_BAR = 0.55
# Okabe and Ito's colours, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color/).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")


@dataclass(frozen=True)
class Bar:
    """A bar.

    Attributes:
        parts: by name how high each is, from the bottom up.
        above: stands above it.
        below: the lines below it.
    """

    parts: dict[str, float]
    above: str
    below: tuple[str, ...] = field(default=())

    @property
    def value(self) -> float:
        """How high it is."""
        return sum(self.parts.values())


def svg(title: str, heading: str, unit: str, bars: list[Bar]) -> str:
    """Return a chart.

    Args:
        title: what a screen reader says of it.
        heading: stands above it.
        unit: of all parts, such as s.
        bars: at least one, from left to right.
    """
    names = list(dict.fromkeys(name for bar in bars for name in bar.parts))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    # Where everything is nothing there is still an axis.
    most = max(bar.value for bar in bars) or 1.0
    width = max(_WIDTH, _STEP * len(bars))
    step = width / len(bars)
    drawn = []
    for place, bar in enumerate(bars):
        y, parts = _TOP + _HEIGHT + 0.0, []
        for name, value in bar.parts.items():
            height = value / most * _HEIGHT
            y -= height
            parts.append({"name": name, "value": value, "y": y, "height": height, "colour": colours[name]})
        x = _LEFT + place * step + step * (1 - _BAR) / 2
        drawn.append({"bar": bar, "x": x, "middle": x + step * _BAR / 2, "top": y, "parts": parts})
    return style.template("bars.svg.j2").render(
        title=title,
        heading=heading,
        unit=unit,
        bars=drawn,
        colours=colours,
        most=most,
        width=width,
        height=_HEIGHT,
        left=_LEFT,
        top=_TOP,
        bar_width=step * _BAR,
        lines=max(len(bar.below) for bar in bars),
    )


def inline(drawn: str) -> Markup:
    """Return a chart as a part of a page: its words have been escaped when it was drawn."""
    return Markup(drawn)  # noqa: S704 (made by `svg`, whose template escapes what it is given)
