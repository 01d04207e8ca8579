"""What is not the same in two runs: the verdict, the checks, and everything that the runs were made with.

Both are reports as report.json holds them, so that a run of long ago can be compared with one of today. What one of
the two does not know is no change: a run that ended before its deployment has no versions to compare.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyharness.case import TrialName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["verdict", "wheel", "image", "driver", "model", "version", "engine", "transport", "check", "timing"]

_TIMINGS = ("total", "engine_start", "inference", "own")
# Shorter ones are the machine's noise: a ratio of them says nothing.
_SHORTEST_SECONDS = 0.5
# What a duration may change by before it is worth a word.
NOTABLE_RATIO = 1.25


@dataclass(frozen=True)
class Change:
    """One thing that is not the same.

    Attributes:
        kind: what sort of thing it is.
        name: which of them.
        before: what it was; None where there was none.
        after: what it is; None where there is none.
        ratio: of two durations, after to before; None for everything else.
    """

    kind: Kind
    name: str
    before: Any
    after: Any
    ratio: float | None = None

    @property
    def notable(self) -> bool:
        """Whether a person should look at it: everything but a duration that is about what it was."""
        return self.ratio is None or not 1 / NOTABLE_RATIO < self.ratio < NOTABLE_RATIO

    def told(self) -> str:
        """Return it in a line."""
        if self.ratio is not None:
            return f"{self.name}: {self.before:.1f} s before, {self.after:.1f} s now ({self.ratio:.2f} times)"
        return f"{self.kind} {self.name}: {_word(self.before)} before, {_word(self.after)} now"

    def to_json(self) -> dict[str, Any]:
        """Return it for a program."""
        return asdict(self)


def between(green: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return what is not the same in two runs but for their durations; what may be a cause stands first.

    Args:
        green: the run to compare with, as its report.json.
        now: the run that is looked at.
    """
    return [
        Change(kind, name, before, after)
        for kind, name, before, after in _pairs(green, now)
        if before != after and (None not in (before, after) or (kind == "check" and after == "fail"))
    ]


def timings(green: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the durations of two runs side by side, each with its ratio; without those too short to tell."""
    changes = []
    for name in _TIMINGS:
        before, after = _at(green, "timing", name), _at(now, "timing", name)
        if isinstance(before, int | float) and isinstance(after, int | float) and before >= _SHORTEST_SECONDS:
            changes.append(Change("timing", name, before, after, round(after / before, 3)))
    return changes


def _pairs(green: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[Kind, str, Any, Any]]:
    yield "verdict", "run", green.get("verdict"), now.get("verdict")
    for key in ("file", "sha256", "source"):
        yield "wheel", key, _at(green, "artifacts", "wheel", key), _at(now, "artifacts", "wheel", key)
    for key in ("ref", "digest"):
        yield "image", key, _at(green, "artifacts", "image", key), _at(now, "artifacts", "image", key)
    yield from _versions(green, now)
    before, after = _served(green), _served(now)
    for trial in before.keys() & after.keys():
        for key in ("revision", "stand_in"):
            yield "model", f"{trial} {key}", before[trial].get(key), after[trial].get(key)
    for key in ("name", "platform", "runtime", "environment"):
        yield "engine", key, _at(green, "engine", key), _at(now, "engine", key)
    for key in ("requested", "used"):
        yield "transport", key, _at(green, "transport", key), _at(now, "transport", key)
    checks_before, checks_after = _checks(green), _checks(now)
    for check in dict.fromkeys([*checks_before, *checks_after]):
        yield "check", check, checks_before.get(check), checks_after.get(check)


def _versions(green: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[Kind, str, Any, Any]]:
    """Compare versions. Where both runs looked, one that is gone or new is a change too."""
    before, after = green.get("versions") or {}, now.get("versions") or {}
    for name in sorted(before.keys() & after.keys()):
        yield (
            "driver" if name == "kernel" or "driver" in name else "version",
            name,
            before[name] or "none",
            after[name] or "none",
        )


def _served(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {_trial(model): model["served"] for model in report.get("models") or () if model.get("served")}


def _checks(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the status of each check by its name, the trial's before it."""
    found = {
        f"{_trial(model)}: {check['id']}": check["status"]
        for model in report.get("models") or ()
        for check in model.get("checks") or ()
    }
    return found | {f"run: {check['id']}": check["status"] for check in report.get("checks") or ()}


def _trial(model: Mapping[str, Any]) -> str:
    return str(TrialName(model.get("name"), model.get("variant")))


def _at(report: Mapping[str, Any], *path: str) -> Any:
    found: Any = report
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
