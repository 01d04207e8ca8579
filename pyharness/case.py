"""Test cases as declared in playbooks/vars/<case>.yml."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pyharness import paths, pictures, yaml_text
from pyharness.declared import ExpectedFailure, Expression, KnownDefect, Port, Strict, Unsupported
from pyharness.errors import UsageError
from pyharness.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CASE_PREFIXES = ("test_", "bench_", "chaos_")

# Of each kind of marker at least one, as the tests of this project have them too (tests/rules/markers.py).
LIFECYCLES = STAGES
TYPES = ("unit", "integration", "e2e", "benchmark", "stress")
HARDWARE = ("gpu_0", "gpu_1", "gpu_2", "gpu_4", "gpu_8")

# What the one trial of a case is called that has neither models nor variants.
NO_NAME = "services"


def _json(values: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:  # a date, bytes, not a number
        message = f"has to be such as JSON can hold ({error})"
        raise ValueError(message) from error
    return values


JsonObject = Annotated[dict[str, Any], AfterValidator(_json)]
# Goes into names of folders and containers.
VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


class Request(Strict):
    """The request whose answer is judged."""

    path: str = Field(pattern="^/")
    body: JsonObject = Field(alias="json")
    timeout_seconds: float = Field(gt=0, le=3600)
    pattern: Expression | None = None

    @field_validator("body")
    @classmethod
    def _has_its_pictures(cls, body: dict[str, Any]) -> dict[str, Any]:
        pictures.embedded(body)
        return body


class Gpus(Strict):
    """What the case takes of each node's GPUs."""

    tensor_parallel: int = Field(ge=1)
    first: int = Field(ge=0)
    count: int | None = Field(default=None, ge=1)

    def per_node(self, markers: Sequence[str]) -> int:
        """Return how many GPUs it takes of each node; none for a case that is marked so."""
        return 0 if "gpu_0" in markers else self.count or self.tensor_parallel


class Variant(Strict):
    """One way to deploy a case. `values` (key `set`) is what its playbook reads as `variant`."""

    name: VariantName
    values: JsonObject = Field(default={}, alias="set")
    models: list[str] | None = None
    unsupported: Unsupported | None = None
    expected_failure: ExpectedFailure | None = None


class AllowedLine(Strict):
    """Lines of the logs that are no sign of trouble in this case: those of a rule, or those that match."""

    rule: str | None = None
    pattern: Expression | None = None
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> AllowedLine:
        if (self.rule is None) == (self.pattern is None):
            message = "allowed_log_lines: each entry has either rule or pattern"
            raise ValueError(message)
        return self

    @field_validator("rule")
    @classmethod
    def _is_known(cls, rule: str | None) -> str | None:
        from pyharness.classification.rules import load  # noqa: PLC0415 (the rules are made of parts of this module)

        known = [entry.id for entry in load().rules]
        if rule is not None and rule not in known:
            nearest = _nearest(rule, known) if difflib.get_close_matches(rule, known, n=1) else "; see docs/failures.md"
            message = f"has to be the id of a rule{nearest}"
            raise ValueError(message)
        return rule


@dataclass(frozen=True)
class TrialName:
    """One deployment of a case: a model (None where it serves none) in a variant (None where it has none)."""

    model: str | None
    variant: str | None

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return " ".join(part for part in (self.model, f"[{self.variant}]" if self.variant else None) if part) or NO_NAME

    @property
    def slug(self) -> str:
        """Return it as the name of a folder, as playbooks/shared/deploy.yml makes it too."""
        parts = (self.model.replace("/", "__") if self.model else None, self.variant)
        return ".".join(part for part in parts if part) or NO_NAME


class TestCase(Strict):
    """One declaration. See docs/adding-a-test-case.md for what each key means."""

    __test__ = False  # not a test of pytest's

    test_case: str
    title: str
    engine: str
    nodes: list[str] = Field(min_length=1)
    models: list[str]
    gpus: Gpus
    transport: Literal["rdma", "tcp"]
    ports: dict[str, Port]
    request: Request | None = None
    reference: Literal["transformers", "single_engine", "recorded", "pattern", "none"] = "none"
    variants: list[Variant] = Field(default_factory=list)
    workload: JsonObject = Field(default_factory=dict)
    allowed_log_lines: list[AllowedLine] = Field(default_factory=list)
    known_defects: list[KnownDefect] = Field(default_factory=list)
    markers: list[str]

    @field_validator("markers")
    @classmethod
    def _one_marker_of_each_kind(cls, markers: list[str]) -> list[str]:
        kinds = {"lifecycle": LIFECYCLES, "type": TYPES, "hardware": HARDWARE}
        for kind, known in kinds.items():
            if not set(markers) & set(known):
                message = f"has to have one of {', '.join(known)} ({kind})"
                raise ValueError(message)
        stages = [stage for stage in STAGES if stage in markers]
        if len(stages) > 1:
            message = f"has to have the earliest stage alone, which is {stages[0]}: it runs in all later ones too"
            raise ValueError(message)
        return markers

    @model_validator(mode="after")
    def _parts_fit(self) -> TestCase:
        """Check what one key says of another. The errors name their keys: at this place nobody else does."""
        names = [variant.name for variant in self.variants]
        problems = [f"variants: {name} stands twice" for name in set(names) if names.count(name) > 1]
        for variant in self.variants:
            problems += [
                f"variants.{variant.name}.models: {model} is not one of models"
                for model in variant.models or []
                if model not in self.models
            ]
        problems += [
            f"known_defects: {name} is not one of variants"
            for defect in self.known_defects
            for name in defect.variants
            if name not in names
        ]
        if self.request is not None and "reference" not in self.model_fields_set:
            problems.append("reference: is missing, and there is a request; none says that nothing is compared")
        if self.reference != "none" and self.request is None:
            problems.append(f"request: is missing, and reference is {self.reference}")
        if self.reference == "pattern" and self.request is not None and self.request.pattern is None:
            problems.append("request.pattern: is missing, and reference is pattern")
        if problems:
            raise ValueError(min(problems))
        return self

    @property
    def prompt(self) -> str:
        """The text that the request asks to go on with."""
        return str(self.request.body.get("text", "")) if self.request else ""

    @property
    def asked(self) -> Request:
        """The request, for the verification of a case that declares one.

        Raises:
            UsageError: it declares none.
        """
        if self.request is None:
            raise UsageError(f"playbooks/vars/{self.test_case}.yml: request: is missing, and the verification sends it")
        return self.request

    @property
    def fixed_ports(self) -> dict[str, int]:
        """The ports that have to be free on every node, by name. The others are leased when it is deployed."""
        return {name: port for name, port in self.ports.items() if isinstance(port, int)}

    @property
    def packages(self) -> list[str]:
        """The packages whose versions say which known defects are looked for."""
        return sorted({defect.package for defect in self.known_defects})

    def variant(self, name: str | None) -> Variant | None:
        """Return the variant of that name; None where there is none."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def trials(self, models: Sequence[str] = (), variants: Sequence[str] = ()) -> list[TrialName]:
        """Return what a run deploys one after the other: each model in each variant.

        Args:
            models: only these; empty takes all.
            variants: only these; empty takes all.
        """
        wanted: list[str | None] = [model for model in self.models if not models or model in models] or [None]
        ways: list[Variant | None] = [way for way in self.variants if not variants or way.name in variants] or [None]
        served = [
            TrialName(model, way.name if way else None)
            for model in wanted
            for way in ways
            if way is None or way.models is None or model in way.models
        ]
        # A variant with an empty list serves none of the case's models.
        alone = [TrialName(None, way.name) for way in ways if way is not None and way.models == [] and not models]
        return served + alone


def names() -> list[str]:
    """Return the names of all declared test cases."""
    return sorted(path.stem for path in paths.DECLARATIONS.glob("*.yml") if path.stem.startswith(CASE_PREFIXES))


def load(name: str, directory: Path | None = None) -> TestCase:
    """Load a declaration.

    Args:
        name: the test case's name.
        directory: where declarations lie; default is playbooks/vars.

    Raises:
        UsageError: there is none of that name, or it has a mistake. The text names file, key and what would do.
    """
    path = (directory or paths.DECLARATIONS) / f"{name}.yml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"no test case is called {name}{_nearest(name, names())}; see: python -m pyharness list"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    try:
        data = yaml_text.load(text, yaml_text.UniqueKeys)
    except ValueError as error:
        raise UsageError(f"{path}: no valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: has to be a mapping of keys to values")
    try:
        case = TestCase.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path}: {_explain(error)}") from error
    if case.test_case != name:
        raise UsageError(f"{path}: test_case is {case.test_case!r} and has to be the file's name, {name!r}")
    return case


def _explain(error: ValidationError) -> str:
    """Say what is wrong with the first key that is wrong; an unknown key first: it explains the one that is missing."""
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    key = " ".join(".".join(str(part) for part in first["loc"]).split())
    known = _known_keys(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key{_nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"{key}: is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}, not {_shown(first['input'])}"


def _shown(value: object) -> str:
    """Return a wrong value as an error shows it. Python writes no integer of more than 4300 digits out."""
    try:
        return repr(str(value)[:80])
    except ValueError:
        return "a number that long"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the mapping at `location` may have."""
    nested: dict[str, type[BaseModel]] = {
        "request": Request,
        "gpus": Gpus,
        "variants": Variant,
        "unsupported": Unsupported,
        "expected_failure": ExpectedFailure,
        "allowed_log_lines": AllowedLine,
        "known_defects": KnownDefect,
    }
    # The innermost mapping that a key of the way names; the last part is the key that is asked about.
    model = next((nested[str(part)] for part in reversed(location[:-1]) if str(part) in nested), TestCase)
    return [field.alias or name for name, field in model.model_fields.items()]


def _nearest(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {close[0]}?" if close else f" (there is: {', '.join(known)})"
