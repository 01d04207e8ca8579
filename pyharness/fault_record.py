"""Faults as report.json has them: what was made to happen, step by step, and what was seen (docs/faults.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

StepName = Literal["precondition", "inject", "effect", "hold", "revert", "gone", "recovery"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FaultTarget(_Part):
    """What a fault is done to: a service on a node, a node, or an address such as one end of a connection."""

    node: str | None = None
    service: str | None = None
    address: str | None = None

    def __str__(self) -> str:
        """Return it as a person reads it."""
        named = self.service or self.address
        return f"{named} on {self.node}" if named and self.node else named or self.node or "nothing"


class FaultStep(_Part):
    """One step of a fault, with what was seen. `at` is in seconds since the epoch; `problem` says why it failed."""

    step: StepName
    status: Literal["ok", "failed"]
    at: float
    seconds: float
    evidence: dict[str, Any] = Field(default_factory=dict)
    problem: str | None = None


class FaultRecord(_Part):
    """A fault that was made to happen.

    `proven`: it took effect, and was in effect still when what had to be seen meanwhile had been seen.
    `reverted`: it is proven to be gone; null for one that is not taken back.
    `recovery_seconds` counts from the begin of the revert, or from the injection of what is not taken back; null where
    it did not come to that.
    """

    name: str
    targets: list[FaultTarget]
    at: float
    steps: list[FaultStep] = Field(default_factory=list)
    proven: bool = False
    reverted: bool | None = None
    recovery_seconds: float | None = None
    limit_seconds: float | None = None
