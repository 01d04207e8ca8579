"""The result of a run: what is in report.json, and how the verdict follows from the checks."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pyharness import redaction
from pyharness.case import TrialName
from pyharness.fault_record import FaultRecord  # noqa: TC001 (pydantic reads it)

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA_VERSION = 1
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

# "flaky" is only ever the verdict of several runs (--repeat).
Verdict = Literal["pass", "fail", "error", "flaky"]
FailureClass = Literal["product", "test", "infrastructure", "configuration", "unsupported", "unknown"]
Status = Literal["pass", "fail", "skipped"]
EventKind = Literal["phase", "start", "ready", "request", "fault", "stop"]

EXIT_CODES: dict[str, int] = {"pass": 0, "fail": 1, "error": 2, "flaky": 1}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class LogLine(_Part):
    """A line of a log that shows something. `file` is relative to the results folder, `line` counts from 1."""

    file: str
    line: int | None = None
    host: str | None = None
    text: str


class Failure(_Part):
    """One thing that went wrong.

    `class` says whose it is: "product" is wrong behaviour of what is tested; with every other class the test could
    not judge. `spoils_judgement` marks what makes the other checks of the run worthless, such as a wrong wheel.
    `unfit_node` names a node that no other test case should run on before somebody has looked.
    `rule` is the id of the rule that classed it (docs/failures.md), `line` the line of a log that shows it, and
    `consequence` marks what follows from the first cause, which stands first. `known` marks a defect that the
    declaration knows of this version: it fails its trial, and leaves the run's verdict to all else.
    """

    class_: FailureClass = Field(alias="class")
    check: str
    evidence: str
    hint: str
    trial: str | None = None
    spoils_judgement: bool = False
    unfit_node: str | None = None
    rule: str | None = None
    line: LogLine | None = None
    consequence: bool = False
    known: bool = False

    @field_validator("evidence")
    @classmethod
    def _writable(cls, value: str) -> str:
        """Replace lone surrogates, which an engine's JSON may hold and no file or terminal takes."""
        return value.encode("utf-8", "replace").decode()


class Check(_Part):
    """One verified statement with its evidence."""

    id: str
    status: Status
    evidence: dict[str, Any]
    seconds: float


class Expected(_Part):
    """What the case declares of a trial and what was found, instead of a failure.

    kind "failure": what was to fail did (expected_failure). kind "unsupported": the platform refused, as it has to.
    kind "known_defect": nothing but defects that the declaration knows of this version. `whole` then says that all else
    was looked at and passed.
    """

    kind: Literal["failure", "unsupported", "known_defect"]
    reason: str
    check: str
    evidence: str
    whole: bool = False


class KnownDefectSeen(_Part):
    """What one trial showed of a defect that its declaration knows.

    `state`: "shows" as declared; "gone": its check passes; "not_judged": neither can be said, and `evidence` says why.
    `found_version` is the package's version here, null where it is not there.
    """

    trial: str
    check: str
    package: str
    version: str
    found_version: str | None
    state: Literal["shows", "gone", "not_judged"]
    reason: str
    reference: str | None = None
    evidence: str


class ModelResult(_Part):
    """What one trial gave: a model (null where none is served) in a variant (null where the case has none)."""

    name: str | None
    variant: str | None = None
    served: dict[str, Any] | None = None
    verdict: Verdict = "error"
    expected: Expected | None = None
    checks: list[Check] = Field(default_factory=list)
    faults: list[FaultRecord] = Field(default_factory=list)

    @property
    def trial(self) -> str:
        """Which trial this is, as failures name it."""
        return str(TrialName(self.name, self.variant))


class Phase(_Part):
    """One phase of the run."""

    name: str
    node: str | None = None
    trial: str | None = None
    status: Literal["ok", "failed"]
    started_at: str
    seconds: float


class Event(_Part):
    """One thing that happened on a node or to a service, for the timeline. `at` is in seconds since the epoch.

    `node` and `service` are null for what the harness did; `seconds` is null for what has no length.
    """

    at: float
    kind: EventKind
    text: str
    node: str | None = None
    service: str | None = None
    trial: str | None = None
    seconds: float | None = None
    ok: bool = True


class TransportUse(_Part):
    """Which transport was asked for, and which one really carried the KV cache; null where that is not known."""

    declared: str
    requested: str | None = None
    used: str | None = None
    evidence: list[dict[str, Any]] = Field(default_factory=list)


class Timing(_Part):
    """Where the time went, in seconds. `own` is what is neither engine start-up nor inference."""

    total: float = 0.0
    engine_start: float = 0.0
    inference: float = 0.0
    own: float = 0.0

    def sum_up(self, total: float, timeline: Iterable[Event]) -> None:
        """Round all, and find the rest.

        Args:
            total: seconds since the run began.
            timeline: has the requests. Of those side by side each moment counts once.
        """
        self.total = round(total, 3)
        until = inference = 0.0
        for at, seconds in sorted((event.at, event.seconds or 0.0) for event in timeline if event.kind == "request"):
            inference += max(0.0, at + seconds - max(at, until))
            until = max(until, at + seconds)
        self.engine_start, self.inference = round(self.engine_start, 3), round(inference, 3)
        self.own = round(self.total - self.engine_start - self.inference, 3)


class Repeat(_Part):
    """One of several runs of the same test case. `first_cause` is null for one that passed."""

    run_id: str
    verdict: Verdict
    seconds: float
    first_cause: str | None


class KnownFlake(_Part):
    """Who minds a flake, and until when (playbooks/vars/known_flakes.yml)."""

    owner: str
    until: str
    reason: str
    issue: str | None = None


class Report(_Part):
    """report.json."""

    schema_version: int = SCHEMA_VERSION
    test_case: str
    run_id: str
    verdict: Verdict = "error"
    started_at: str
    finished_at: str | None = None
    inventory: str
    engine: dict[str, Any]
    simulated: bool | None = None
    runtime: str | None = None
    phases: list[Phase] = Field(default_factory=list)
    models: list[ModelResult] = Field(default_factory=list)
    checks: list[Check] = Field(default_factory=list)
    transport: TransportUse
    versions: dict[str, str | None] = Field(default_factory=dict)
    artifacts: dict[str, dict[str, Any] | None] = {"wheel": None, "image": None}
    timing: Timing = Field(default_factory=Timing)
    timeline: list[Event] = Field(default_factory=list)
    repeats: list[Repeat] = Field(default_factory=list)
    known_flake: KnownFlake | None = None
    known_defects: list[KnownDefectSeen] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)

    def judge(self) -> Verdict:
        """Set and return the verdict of each trial and of the run.

        Pass needs every trial judged and no failure at all. A failure that spoils the judgement makes it an error
        even if a product check failed too: with the wrong wheel loaded, nothing follows for the right one.
        A trial that went as its declaration expects (it fails, or cannot run here) keeps its own verdict and leaves
        the run's to the others; where there are no others, it is the run's. One that shows known defects and nothing
        else is judged like any by all its other checks: where they were made and passed, the run passes with it.
        """
        for model in self.models:
            own = [failure for failure in self.failures if failure.trial == model.trial]
            counted = [failure for failure in own if not failure.known]
            model.verdict = _verdict(counted or own, complete=bool(model.checks))
            _known_only(model, own)
        judged = [model for model in self.models if model.expected is None or model.expected.whole]
        left = {model.trial for model in self.models if model not in judged} if judged else set()
        failures = [
            failure for failure in self.failures if failure.trial not in left and not (failure.known and judged)
        ]
        complete = bool(self.models) and all(model.checks for model in judged)
        self.verdict = _verdict(failures, complete=complete)
        return self.verdict

    @property
    def defects_shown(self) -> int:
        """How many known defects showed: each counts once, however many trials show it."""
        shown = [seen for seen in self.known_defects if seen.state == "shows"]
        return len({(seen.check, seen.package, seen.version, seen.reason) for seen in shown})

    @property
    def told_verdict(self) -> str:
        """The verdict in words; a pass beside known defects says so."""
        count = self.defects_shown
        beside = f" with {count} known defect{'s' * (count > 1)}" if count and self.verdict == "pass" else ""
        return f"{self.verdict}{beside}"

    def to_json(self) -> dict[str, Any]:
        """Return it as report.json holds it: without any secret."""
        document: dict[str, Any] = redaction.redact_value(self.model_dump(mode="json", by_alias=True))
        return document


def _known_only(model: ModelResult, own: list[Failure]) -> None:
    """See whether a trial has failed by nothing but known defects, and whether these left all else to be judged."""
    if model.expected is None or model.expected.kind != "known_defect":
        return
    if not own or not all(failure.known for failure in own):
        model.expected = None  # something has come to it since, such as a line of a log
        return
    known = {failure.check for failure in own}
    # The logs of services that are still up are not here: so it is with every trial that passes.
    others = [check for check in model.checks if check.id not in known and check.id != "logs_clean"]
    passed = bool(others) and all(check.status == "pass" for check in others)
    model.expected.whole = model.expected.whole and passed


def _verdict(failures: list[Failure], *, complete: bool) -> Verdict:
    if any(failure.spoils_judgement for failure in failures):
        return "error"
    if any(failure.class_ == "product" for failure in failures):
        return "fail"
    return "error" if failures or not complete else "pass"


def new_run_id() -> str:
    """Return an id that sorts by time and that two runs never share."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def now() -> str:
    """Return the time as reports write it: UTC, to the second."""
    return datetime.now(UTC).strftime(TIME_FORMAT)
