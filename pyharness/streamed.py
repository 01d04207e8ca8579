"""What came of a streaming request (see streaming.py): its events, when they came, and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

DONE = "[DONE]"
# done: the stream's own end came. closed: the answer ended well, without it. truncated: the connection broke.
# cancelled: by this client. late: a deadline passed. refused: no connection, another status, or no event stream.
Ending = Literal["done", "closed", "truncated", "cancelled", "late", "refused"]


@dataclass(frozen=True)
class Event:
    """One server-sent event. `at` is on the monotonic clock, in seconds; `event` is its type, mostly "message"."""

    data: str
    event: str
    at: float

    @cached_property
    def content(self) -> dict[str, Any]:
        """Its data as a JSON object; empty where it is none."""
        try:
            found = json.loads(self.data)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def text(self) -> str:
        """What it adds to the answer: of a chat's delta, reasoning too, or of a text completion."""
        parts = []
        for choice in self.content.get("choices") or []:
            delta = choice.get("delta") or {}
            parts += [delta.get("reasoning_content"), delta.get("content"), choice.get("text")]
        return "".join(part for part in parts if isinstance(part, str))


@dataclass(frozen=True)
class Streamed:
    """A streaming request and what came of it. `status` is None where there was no answer.

    Attributes:
        url: where to.
        request: what was sent.
        status: HTTP status.
        headers: the answer's.
        body: of an answer that is no stream.
        events: in their order.
        ending: how it ended.
        problem: why, where it is not "done".
        started: when it was asked, on the monotonic clock.
        seconds: how long it took.
    """

    url: str
    request: dict[str, Any]
    status: int | None
    headers: dict[str, str]
    body: str | None
    events: tuple[Event, ...]
    ending: Ending
    problem: str | None
    started: float
    seconds: float

    @cached_property
    def content_events(self) -> tuple[Event, ...]:
        """The events that add to the answer."""
        return tuple(event for event in self.events if event.text)

    @property
    def text(self) -> str:
        """All of the answer that came."""
        return "".join(event.text for event in self.events)

    @cached_property
    def error(self) -> str | None:
        """What the first error event says; None if there is none. It does not depend on how the stream ended."""
        for event in self.events:
            if event.event == "error" or event.content.get("error"):
                return event.data
        return None

    @property
    def finish_reason(self) -> str | None:
        """Why the engine ended the answer, such as "length"; None where that did not come."""
        for event in reversed(self.events):
            for choice in event.content.get("choices") or []:
                if choice.get("finish_reason"):
                    return str(choice["finish_reason"])
        return None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The counts of tokens, where they were asked for (``stream_options: {include_usage: true}``) and came."""
        found = [event.content["usage"] for event in self.events if isinstance(event.content.get("usage"), dict)]
        return found[-1] if found else None

    @property
    def complete(self) -> bool:
        """Whether it ended as it has to: a reason to end, the stream's own end, and no error."""
        return self.ending == "done" and self.error is None and self.finish_reason is not None

    @property
    def first_seconds(self) -> float | None:
        """From the request to the first event that adds to the answer; None where none came."""
        return round(self.content_events[0].at - self.started, 4) if self.content_events else None

    @cached_property
    def gaps(self) -> tuple[float, ...]:
        """The seconds between one event that adds to the answer and the next."""
        return tuple(round(after.at - before.at, 4) for before, after in pairwise(self.content_events))

    @property
    def longest_gap(self) -> float:
        """The longest of `gaps`, in seconds; 0 where there are none."""
        return max(self.gaps, default=0.0)

    def gap_around(self, moment: float) -> float | None:
        """Return the gap in which a moment of the monotonic clock lies; None where none does.

        Args:
            moment: such as when a fault was injected.
        """
        for before, after in pairwise(self.content_events):
            if before.at <= moment < after.at:
                return round(after.at - before.at, 4)
        return None

    def gap_during(self, since: float, until: float) -> float | None:
        """Return the longest gap of which a part lies between two moments of the monotonic clock; None where none does.

        Args:
            since: such as when a fault was about to be injected.
            until: such as when it was proven.
        """
        pairs = pairwise(self.content_events)
        found = [after.at - before.at for before, after in pairs if before.at <= until and after.at >= since]
        return round(max(found), 4) if found else None

    def evidence(self) -> dict[str, Any]:
        """Return its figures, for the evidence of a check."""
        return {
            "url": self.url,
            "status": self.status,
            "ending": self.ending,
            "problem": self.problem,
            "error": self.error,
            "events": len(self.events),
            "content_events": len(self.content_events),
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "first_seconds": self.first_seconds,
            "longest_gap_seconds": self.longest_gap,
            "seconds": round(self.seconds, 3),
        }

    def transcript(self) -> str:
        """Return it as a person reads it: each event with the seconds after the request."""
        lines = [f"> POST {self.url}", f"> {json.dumps(self.request, ensure_ascii=False)}"]
        if self.status is not None:
            lines.append(f"< HTTP {self.status}")
            lines += [f"< {name}: {value}" for name, value in self.headers.items()]
        if self.body is not None:
            lines += ["", self.body, ""]
        for event in self.events:
            named = "" if event.event == "message" else f" {event.event}:"
            lines.append(f"+ {event.at - self.started:.3f} s{named} {event.data}")
        lines.append(f"! {self.ending}" + (f": {self.problem}" if self.problem else ""))
        lines.append(f"* {self.seconds:.3f} s")
        return "\n".join(lines) + "\n"
