"""The ledger of known flakes: failures that come and go, each with an owner and an end date.

A known flake is no pass. The ledger says who is at work on it; past its date the entry itself is an error.
"""

from __future__ import annotations

import datetime as dt  # noqa: TC003 (pydantic reads it)
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pyharness import paths, yaml_text
from pyharness.case import load
from pyharness.classification import rules
from pyharness.declared import Expression  # noqa: TC001 (pydantic reads it)
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyharness.results import Failure, Report

_EXAMPLE = "docs/failures.md, Record a known flake"


class KnownFlake(BaseModel):
    """One entry.

    Attributes:
        test_case: whose failure it is.
        trial: of which trial, as failures name it; None: of any.
        check: which check fails.
        rule: or which rule explains it. At least one of both is there.
        evidence: expression that the failure's evidence matches.
        owner: who is at work on it.
        reason: what is known so far.
        issue: where it is talked about.
        until: the last day on which it counts as known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    test_case: str
    trial: str | None = None
    check: str | None = None
    rule: str | None = None
    evidence: Expression
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    issue: str | None = Field(default=None, pattern="^https?://")
    until: dt.date

    @model_validator(mode="after")
    def _says_what(self) -> KnownFlake:
        if self.check is None and self.rule is None:
            message = "check: is missing, and so is rule; say which failure it is"
            raise ValueError(message)
        if self.rule is not None and not rules.load().knows(self.rule):
            message = f"rule: there is no rule {self.rule}; see docs/failures.md"
            raise ValueError(message)
        return self

    def covers(self, report: Report, failure: Failure) -> bool:
        """Tell whether a failure of a run is this one."""
        return (
            self.test_case == report.test_case
            and self.trial in (None, failure.trial)
            and self.check in (None, failure.check)
            and self.rule in (None, failure.rule)
            and re.search(self.evidence, failure.evidence) is not None
        )

    def expired(self, today: dt.date) -> str | None:
        """Return a line that says so if its time is over; None if it is not."""
        if today <= self.until:
            return None
        what = self.check or self.rule
        return (
            f"known flake {self.test_case} {what}: was to be mended by {self.until} ({self.reason}); "
            f"{self.owner}: mend it, or say in playbooks/vars/known_flakes.yml until when"
        )


def read(path: Path | None = None) -> list[KnownFlake]:
    """Read the ledger.

    Args:
        path: default is playbooks/vars/known_flakes.yml. A file that is not there has no entry.

    Raises:
        UsageError: it has a mistake; the text names file, entry and key.
    """
    path = path or paths.DECLARATIONS / "known_flakes.yml"
    try:
        data = yaml_text.load(path.read_text(encoding="utf-8"), yaml_text.UniqueKeys)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    entries = data.get("known_flakes") if isinstance(data, dict) and len(data) == 1 else None
    if not isinstance(entries, list):
        raise UsageError(f"{path}: known_flakes: has to be a list of entries, [] where there is none ({_EXAMPLE})")
    return [_entry(path, number, entry) for number, entry in enumerate(entries, 1)]


def _entry(path: Path, number: int, entry: Any) -> KnownFlake:
    where = f"{path}: entry {number}"
    try:
        flake = KnownFlake.model_validate(entry)
    except ValidationError as error:
        # An unknown key first: it explains the one that is missing.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {f'{key}: ' if key else ''}{message} ({_EXAMPLE})") from error
    try:
        load(flake.test_case)
    except UsageError as error:
        raise UsageError(f"{where}: test_case: {error}") from error
    return flake


def known(report: Report, today: dt.date, entries: Sequence[KnownFlake] | None = None) -> KnownFlake | None:
    """Return the entry that covers what went wrong in a run; None if it is none of them, or went well.

    Every first cause has to be covered by an entry whose time is not over; consequences follow from these.

    Args:
        report: the run, explained (`classification.explain`).
        today: on which day it counts.
        entries: default is the project's ledger.

    Raises:
        UsageError: the ledger has a mistake.
    """
    valid = [entry for entry in (read() if entries is None else entries) if entry.expired(today) is None]
    first = [failure for failure in report.failures if not failure.consequence]
    covered = [next((entry for entry in valid if entry.covers(report, failure)), None) for failure in first]
    return covered[0] if covered and None not in covered else None


def expired(today: dt.date, entries: Sequence[KnownFlake] | None = None) -> list[str]:
    """Return a line for each entry whose time is over, with its owner.

    Raises:
        UsageError: the ledger has a mistake.
    """
    told = (entry.expired(today) for entry in (read() if entries is None else entries))
    return [line for line in told if line]
