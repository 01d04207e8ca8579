"""What happened when, as a drawing: the phases on top, and below them a lane for each node and each service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from pyharness.results import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyharness.results import Report

# The drawing's own units; the browser fits the whole to the page.
WIDTH = 1000
LABELS = 190  # for the lanes' names, at the left
_LANE = 26
_TOP = 24  # for the axis
_LETTER = 7.2  # about as wide as one is
_NARROWEST = 2.0  # a bar that is still seen
_TICKS = 8
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000)


@dataclass(frozen=True)
class Bar:
    """Something with a length. `kind` is a class of the style; `text` is shown where it fits."""

    x: float
    width: float
    kind: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment."""

    x: float
    kind: str
    title: str


@dataclass
class Lane:
    """One row of the drawing; `level` is 0 for phases, 1 for a node or the harness, 2 for a service."""

    label: str
    level: int
    y: int = 0
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The label, cut where the column ends."""
        most = int((LABELS - 8 - 12 * (self.level == 2)) / _LETTER)
        return self.label if len(self.label) <= most else self.label[: most - 1] + "…"


@dataclass(frozen=True)
class Row:
    """One row of the same as a table."""

    seconds: float
    kind: str
    where: str
    text: str
    took: float | None
    ok: bool


@dataclass(frozen=True)
class Timeline:
    """The drawing, and the table for who cannot see it. `begin` is in seconds since the epoch."""

    begin: float
    lanes: list[Lane]
    ticks: list[tuple[float, str]]
    rows: list[Row]
    height: int
    seconds: float


def draw(report: Report) -> Timeline:
    """Return the timeline of a run. Seconds count from its first moment."""
    phases = _phases(report)
    events = sorted((event for event in report.timeline if event.kind != "phase"), key=lambda event: event.at)
    moments = [at for event in [*phases, *events] for at in (event.at, event.at + (event.seconds or 0))]
    begin = min([*moments, _epoch(report.started_at)])
    length = max([*(at - begin for at in moments), report.timing.total, 0.1])
    scale = _Scale(begin, length)
    lanes = [*_phase_lanes(phases, scale), *_other_lanes(events, scale)]
    for number, lane in enumerate(lanes):
        lane.y = _TOP + number * _LANE
    rows = _rows([*phases, *events], begin)
    return Timeline(begin, lanes, _ticks(scale), rows, _TOP + len(lanes) * _LANE + 6, length)


class _Scale:
    def __init__(self, begin: float, length: float) -> None:
        self.begin, self.length = begin, length

    def x(self, at: float) -> float:
        return round(LABELS + (at - self.begin) / self.length * (WIDTH - LABELS - 6), 1)

    def bar(self, start: float, end: float, kind: str, title: str, text: str = "") -> Bar:
        x = self.x(start)
        width = round(max(_NARROWEST, self.x(end) - x), 1)
        return Bar(x, width, kind, title, text if len(text) * _LETTER + 8 <= width else "")


def _phases(report: Report) -> list[Event]:
    """Return the phases, with the moments of the timeline where it has them: those of the phases are whole seconds."""
    known = [event for event in report.timeline if event.kind == "phase"]
    if len(known) == len(report.phases):
        return known
    return [
        Event(
            at=_epoch(phase.started_at),
            kind="phase",
            text=phase.name,
            trial=phase.trial,
            seconds=phase.seconds,
            ok=phase.status == "ok",
        )
        for phase in report.phases
    ]


def _phase_lanes(phases: list[Event], scale: _Scale) -> list[Lane]:
    """Return the phases in as few lanes as hold them without one lying on another."""
    lanes: list[Lane] = []
    ends: list[float] = []
    for event in sorted(phases, key=lambda event: event.at):
        end = event.at + (event.seconds or 0)
        # Moments are rounded: phases that follow one another may seem to overlap by a little.
        free = next((number for number, until in enumerate(ends) if until <= event.at + 1.0), None)
        if free is None:
            free = len(lanes)
            lanes.append(Lane("" if lanes else "phases", 0))
            ends.append(0.0)
        ends[free] = end
        title = f"{_named(event)}: {event.seconds or 0:.1f} s{'' if event.ok else ', failed'}"
        kind = "phase" if event.ok else "phase broken"
        lanes[free].bars.append(scale.bar(event.at, end, kind, title, event.text if event.ok else f"✗ {event.text}"))
    return lanes


def _other_lanes(events: list[Event], scale: _Scale) -> list[Lane]:
    """Return a lane for each node, each followed by those of its services; what is of no node stands first."""
    of: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        of.setdefault((event.node or "", event.service or ""), []).append(event)
    for node in dict.fromkeys(node for node, _service in of):
        of.setdefault((node, ""), [])
    nodes = list(dict.fromkeys(node for node, _service in of))
    order = sorted(of, key=lambda key: (key[0] != "", nodes.index(key[0]), key[1] != ""))
    lanes = []
    for node, service in order:
        lane = Lane(service or node or "harness", 2 if service else 1)
        if not (service or node or of[node, service]):
            continue
        _fill(lane, of[node, service], scale)
        lanes.append(lane)
    return lanes


def _fill(lane: Lane, events: list[Event], scale: _Scale) -> None:
    """Put what happened into a lane: a service starts, is up, and stops, and meanwhile things happen to it."""
    starting = up = None
    above: list[Bar] = []
    end = scale.begin + scale.length
    for event in events:
        title = f"{event.at - scale.begin:.1f} s, {event.kind}: {event.text}"
        if event.kind == "start":
            starting = event.at
        elif event.kind in ("ready", "stop"):
            if starting is not None:
                took = f"starting: {event.at - starting:.1f} s"
                lane.bars.append(scale.bar(starting, event.at, "starting", took))
            elif up is not None:
                lane.bars.append(scale.bar(up, event.at, "up", f"up for {event.at - up:.1f} s"))
            starting, up = None, event.at if event.kind == "ready" else None
        if event.seconds and event.kind in ("request", "fault"):
            kind = event.kind if event.ok else f"{event.kind} broken"
            above.append(scale.bar(event.at, event.at + event.seconds, kind, title))
        else:
            lane.marks.append(Mark(scale.x(event.at), event.kind if event.ok else "fault", title))
    if starting is not None:
        lane.bars.append(scale.bar(starting, end, "starting", "never became ready"))
    elif up is not None:
        lane.bars.append(scale.bar(up, end, "up", "up to the end"))
    lane.bars += above


def _rows(events: Iterable[Event], begin: float) -> list[Row]:
    return [
        Row(
            round(event.at - begin, 1),
            event.kind,
            " on ".join(part for part in (event.service, event.node) if part),
            _named(event),
            event.seconds,
            event.ok,
        )
        for event in sorted(events, key=lambda event: event.at)
    ]


def _named(event: Event) -> str:
    return event.text + (f" ({event.trial})" if event.trial and event.trial not in event.text else "")


def _ticks(scale: _Scale) -> list[tuple[float, str]]:
    step = next((step for step in _STEPS if scale.length / step <= _TICKS), scale.length / _TICKS)
    marks = [round(number * step, 1) for number in range(int(scale.length / step) + 1)]
    # The last one would be cut off by the edge.
    room = scale.length / (WIDTH - LABELS) * 40
    marks = [mark for mark in marks if mark + room <= scale.length or mark == 0]
    assert all(one < other for one, other in pairwise(marks))
    return [(scale.x(scale.begin + mark), f"{mark:g} s") for mark in marks]


def _epoch(moment: str) -> float:
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
