"""The rules by which failures are classed, as data: rules/*.yml.

A mistake in one of them is told with file, rule and key, when they are first read.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyharness import yaml_text
from pyharness.declared import Expression  # noqa: TC001 (pydantic reads it)
from pyharness.errors import UsageError
from pyharness.results import FailureClass  # noqa: TC001 (the same)

FOLDER = Path(__file__).parent / "rules"
# In this order: of the rules that match a line the first counts.
FILES = ("infrastructure", "configuration", "mooncake", "product", "evidence")
UNKNOWN = "unknown"

RuleId = Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z0-9_]+)+$|^unknown$")]
# What a rule reads: logs of services, the kernel's log, Ansible's output, or what the harness says of a failure.
Place = Literal["services", "kernel", "ansible", "evidence"]
Severity = Literal["fatal", "suspicious", "note"]
# How much a line says of the cause. Of two lines that explain a failure the one that says more is taken.
Weight = Literal["cause", "general", "symptom"]
WEIGHTS: tuple[Weight, ...] = ("cause", "general", "symptom")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Text(_Strict):
    id: RuleId
    find: list[str] = Field(min_length=1)
    pattern: Expression
    example: str

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """The pattern, compiled."""
        return re.compile(self.pattern)

    def matches(self, line: str) -> bool:
        """Tell whether a line is of this kind."""
        return any(word in line for word in self.find) and self.expression.search(line) is not None


class Rule(_Text):
    """One kind of line that explains a failure, or that spoils a pass.

    Attributes:
        find: texts one of which the line holds, letter by letter: logs are searched for them first.
        severity: `fatal` is a cause of failure; `suspicious` may come of something that is meant; both fail a run that
            would pass otherwise, unless the case allows them. `note` explains `explains`, and nothing else.
        explains: checks that such a line explains although the line itself need not be fatal.
    """

    class_: FailureClass = Field(alias="class")
    severity: Severity
    where: list[Place] = Field(default=["services"], min_length=1)
    weight: Weight = "cause"
    explains: list[str] = []
    hint: str
    source: str


class Harmless(_Text):
    """One kind of line that looks bad and is not."""

    why: str


class Made(_Strict):
    """An id that code gives, and what it means. `class` is null where the code decides from case to case."""

    id: RuleId
    class_: FailureClass | None = Field(alias="class")
    means: str


class Rules:
    """All rules.

    Args:
        rules: in the order in which they are tried.
        harmless: tried before them.
        made: ids that code gives.
    """

    def __init__(self, rules: list[Rule], harmless: list[Harmless], made: list[Made]) -> None:
        self.rules, self.harmless, self.made = rules, harmless, made
        ids = [*(rule.id for rule in rules), *(text.id for text in harmless), *(entry.id for entry in made)]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice:
            raise UsageError(f"{FOLDER}: rule {twice} stands twice; give one of them another id")
        self.ids = frozenset(ids)

    def of(self, place: Place) -> list[Rule]:
        """Return the rules that read such a text."""
        return [rule for rule in self.rules if place in rule.where]

    def knows(self, name: str) -> bool:
        """Tell whether a failure may have this id: one of a rule, or of a check."""
        return name in self.ids or name.startswith("check.")

    def named(self, name: str) -> Rule | None:
        """Return the rule of that id; None for what has no text to look for."""
        return next((rule for rule in self.rules if rule.id == name), None)

    def match(self, line: str, place: Place) -> Rule | None:
        """Return the first rule of a place that a text matches."""
        return next((rule for rule in self.of(place) if rule.matches(line)), None)


@lru_cache(maxsize=1)
def load() -> Rules:
    """Return the project's rules. They are read once.

    Raises:
        UsageError: a file of theirs has a mistake.
    """
    return read(FOLDER)


def read(folder: Path) -> Rules:
    """Read rules.

    Args:
        folder: where their files lie.

    Raises:
        UsageError: a file has a mistake; the text names file, rule and key.
    """
    rules = [rule for name in FILES for rule in entries(folder / f"{name}.yml", Rule)]
    return Rules(rules, entries(folder / "harmless.yml", Harmless), entries(folder / "made.yml", Made))


_Entry = TypeVar("_Entry", bound=BaseModel)


def entries(path: Path, kind: type[_Entry]) -> list[_Entry]:
    """Read a list of entries of one kind.

    Args:
        path: the file.
        kind: what each entry is.

    Raises:
        UsageError: the file has a mistake; the text names file, entry and key.
    """
    try:
        data = yaml_text.load(path.read_text(encoding="utf-8"), yaml_text.UniqueKeys)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if not isinstance(data, list):
        raise UsageError(f"{path}: has to be a list")
    return [_entry(path, number, entry, kind) for number, entry in enumerate(data, 1)]


def _entry(path: Path, number: int, entry: Any, kind: type[_Entry]) -> _Entry:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        name = entry.get("id", entry.get("level", number)) if isinstance(entry, dict) else number
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: rule {name}: {key or 'rule'}: {message}") from error
