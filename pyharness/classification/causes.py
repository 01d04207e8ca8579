"""First causes and consequences: which failure of a run explains which, and in what order they are told."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pyharness.classification import logs
from pyharness.classification.rules import FOLDER, entries, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.results import Failure

# What ended the run stands first, whatever else there is.
_FIRST = ("usage", "lease", "interrupted")
# What goes wrong when all is over explains nothing that was before.
_AFTERWARDS = ("teardown", "nodes_clean")
_GIVEN_UP = "run.given_up"


class Level(BaseModel):
    """Failures that explain those of the levels below. `explains`: only these rules, where it is not all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: str
    why: str
    rules: list[str] = []
    checks: list[str] = []
    explains: list[str] = []


@lru_cache(maxsize=1)
def levels() -> list[Level]:
    """Return the levels, from cause to consequence.

    Raises:
        UsageError: the file has a mistake.
    """
    return entries(FOLDER / "causes.yml", Level)


@dataclass(frozen=True)
class _Placed:
    """A failure, and what is needed to compare it with others."""

    index: int
    failure: Failure
    depth: int | None
    level: Level | None
    host: str | None
    at: float | None
    service: str | None
    alive: bool

    def before(self, other: _Placed) -> bool:
        """Tell whether it happened first: by the logs, and where these do not say, as it was noticed."""
        if self.at is not None and other.at is not None and self.at != other.at:
            return self.at < other.at
        # What one line shows of a service and of a request: the service was first.
        together = self.failure.line is not None and self.failure.line == other.failure.line
        return (together and self.service is None, self.index) < (together and other.service is None, other.index)


def settle(failures: list[Failure], times: Sequence[float | None]) -> None:
    """Mark the consequences, and put first what they come of.

    A consequence is blamed on whom its cause is blamed on: a router that has nobody left to ask is no defect of the
    product when its server died of a full disk.

    Args:
        failures: of the run; changed in place.
        times: when the line was written that shows each of them, in seconds since the epoch; None where not known.
    """
    placed = [_placed(index, failure, times[index]) for index, failure in enumerate(failures)]
    causes: dict[int, _Placed] = {}
    for entry in placed:
        found = [other for other in placed if other is not entry and _explains(other, entry)]
        if found:
            causes[entry.index] = min(found, key=lambda other: (other.depth or 0, other.index))
    for entry in placed:
        cause = causes.get(entry.index)
        entry.failure.consequence = cause is not None
        while cause is not None and cause.index in causes:
            cause = causes[cause.index]
        if cause is not None and entry.failure.class_ == "product":
            entry.failure.class_ = cause.failure.class_
    failures.sort(key=lambda failure: (failure.check not in _FIRST, failure.consequence))


def _placed(index: int, failure: Failure, at: float | None) -> _Placed:
    rule = failure.rule or ""
    found = (
        (depth, level)
        for depth, level in enumerate(levels())
        if failure.check in level.checks or any(fnmatch.fnmatchcase(rule, pattern) for pattern in level.rules)
    )
    depth, level = next(found, (None, None))
    about = logs.subject(failure.evidence)
    host = failure.line.host if failure.line and failure.line.host else (about.node if about else failure.unfit_node)
    known = load().named(rule)
    # One that only says that others are gone, or that waits for them, may well be a consequence.
    alive = bool(about and about.what in ("hung", "late")) or bool(known and known.weight == "symptom")
    return _Placed(index, failure, depth, level, host, at, about.service if about else None, alive)


def _explains(cause: _Placed, entry: _Placed) -> bool:
    one, other = cause.failure, entry.failure
    if cause.depth is None or cause.level is None or one.check in _AFTERWARDS:
        return False
    if other.check in _AFTERWARDS:
        return cause.level.level == "node" and _same(cause.host, entry.host)
    if entry.depth is None:
        return False
    lasting = cause.level.level in ("node", "ground")
    if cause.level.explains:
        result = other.rule in cause.level.explains
    elif one.trial != other.trial and not (one.trial is None and lasting):
        # What a node lacks, it lacks for the next trial too.
        result = lasting and one.rule == other.rule and cause.host == entry.host and cause.before(entry)
    elif cause.depth < entry.depth:
        # What another host lacks does not explain why a service ended here.
        result = not entry.service or entry.alive or _same(cause.host, entry.host)
    elif cause.depth > entry.depth or not cause.before(entry):
        result = False
    else:
        again = one.rule == other.rule and (cause.service is None or _same(cause.host, entry.host))
        result = again or (entry.alive and not cause.alive)
    return result


def _same(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other
