"""Streams of a real Dynamo 1.6.1 with its simulated engine, as curl_response.log has them (tests/unit/data/dynamo).

whole: 16 tokens. migrated: the same, its worker killed after 6. lost: the same without migration. replayed: 16 of a
trace. replayed_migrated: the same, its worker killed after 6.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyharness.streamed import Event, Streamed

if TYPE_CHECKING:
    from pyharness.streamed import Ending

FOLDER = Path(__file__).parent / "data" / "dynamo"
_EVENT = re.compile(r"\+ (?P<at>[0-9.]+) s(?: (?P<event>[a-z]+):)? (?P<data>.*)")


def recorded(name: str) -> Streamed:
    """Return a stream as it was recorded."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    lines = text.splitlines()
    events = [
        Event(found["data"], found["event"] or "message", float(found["at"]))
        for line in lines
        if (found := _EVENT.fullmatch(line))
    ]
    request: dict[str, Any] = json.loads(lines[1].removeprefix("> "))
    ending = next(line.removeprefix("! ") for line in lines if line.startswith("! "))
    return Streamed(
        url=lines[0].removeprefix("> POST "),
        request=request,
        status=200,
        headers={},
        body=None,
        events=tuple(events),
        ending=cast("Ending", ending),
        problem=None,
        started=0.0,
        seconds=events[-1].at,
    )


def changed(told: Streamed, **changes: Any) -> Streamed:
    """Return a stream with some of its fields changed."""
    return Streamed(**{**{name: getattr(told, name) for name in Streamed.__dataclass_fields__}, **changes})


def without(told: Streamed, *places: int) -> Streamed:
    """Return a stream that lacks some of its events."""
    return changed(told, events=tuple(event for at, event in enumerate(told.events) if at not in places))


def with_event(told: Streamed, place: int, **changes: Any) -> Streamed:
    """Return a stream of which one event's object is changed."""
    event = told.events[place]
    other = Event(json.dumps({**event.content, **changes}), event.event, event.at)
    return changed(told, events=(*told.events[:place], other, *told.events[place + 1 :]))
