"""Parts of a declaration: how a trial is expected to end (a platform that refuses, defects that are known), ports."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

# In place of a port's number.
LEASED = "leased"
_LAST_PORT = 65535


class Strict(BaseModel):
    """A part of a declaration: no key but the known ones, and nothing changes it afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        message = f"has to be a regular expression ({error})"
        raise ValueError(message) from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]


def _port(value: object) -> object:
    if value == LEASED or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LAST_PORT):
        return value
    message = f"has to be the number of a port, or {LEASED}"
    raise ValueError(message)


# A port's number, or that one is found and held when the case is deployed.
Port = Annotated[int | str, BeforeValidator(_port)]


class Unsupported(Strict):
    """A platform that cannot run a variant, and the words by which it refuses; `always`, or as the node is."""

    platform: Literal["cpu", "cuda", "simulator"]
    refusal: Expression
    reason: str
    always: bool = True


class ExpectedFailure(Strict):
    """A defect that leaves nothing of a variant to judge: the one check that it fails, and how."""

    check: str
    evidence: Expression
    reason: str


class KnownDefect(Strict):
    """A defect of one version of a package, kept as a check that shows it.

    Attributes:
        check: the one check that fails by it.
        evidence: found in a line of what that check says.
        package: whose defect it is, as `versions` of report.json names it.
        version: the version that has it, and no other.
        reason: what is wrong.
        reference: where it is reported or described.
        variants: only in these; none: in every trial.
        intermittent: it does not show each time, so that it is no alarm where it does not.
    """

    check: str = Field(min_length=1)
    evidence: Expression
    package: str = Field(min_length=1)
    version: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    reference: str | None = None
    variants: list[str] = Field(default_factory=list)
    intermittent: bool = False

    @field_validator("version", mode="before")
    @classmethod
    def _is_quoted(cls, version: object) -> object:
        """Refuse what YAML has made a number of: 0.50 would be 0.5."""
        if isinstance(version, int | float):
            message = "has to be in quotation marks: YAML reads a number"
            raise ValueError(message)
        return version

    @property
    def about(self) -> str:
        """The defect as a person is told of it."""
        reference = f"; {self.reference}" if self.reference else ""
        return f"{self.package} {self.version}: {self.reason}{reference}"


def same_name(package: str) -> str:
    """Return a distribution's name in its one normal form (PyPA, Names and normalization)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def line_of(expression: str, evidence: str) -> str | None:
    """Return the line of an evidence that an expression is found in; None if there is none."""
    return next((line.strip() for line in evidence.splitlines() if re.search(expression, line)), None)
