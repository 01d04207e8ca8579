"""What a run is asked to do, and what can be found out about it before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import arguments, engines, paths, redaction, wheel_source
from pyharness.verification.wheel import read_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.case import TestCase


@dataclass(frozen=True)
class Options:
    """What a run is asked to do.

    Attributes:
        test_case: its name.
        inventory: path of the inventory.
        results: folder that takes one folder per test case.
        wheel: a path, URL, version or artifact (see wheel_source.py); None takes the inventory's.
        models: only these of the declared models; empty takes all.
        variants: only these of the declared variants; empty takes all.
        keep: leave the last deployment up.
        resume: go on with the run that lies in the results folder.
        wait: seconds to wait for nodes that another run has.
        repeat: how often to run it.
        allow_known_flakes: whether a recorded flake is a failure for who reads the exit code.
        extra_vars: further variables for the playbooks.
        tell: told of every step, for a person.
    """

    test_case: str
    inventory: Path = paths.DEFAULT_INVENTORY
    results: Path = Path("run")
    wheel: str | None = None
    models: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    keep: bool = False
    resume: bool = False
    wait: float = 0.0
    repeat: int = 1
    allow_known_flakes: bool = False
    extra_vars: dict[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _text: None

    def __post_init__(self) -> None:
        """Know what is secret of it before anything is told."""
        redaction.learn_variables({**self.extra_vars, "--wheel": self.wheel or ""})
        tell = self.tell
        # Who calls the harness from Python has its own standard error.
        object.__setattr__(self, "tell", lambda text: tell(redaction.redact(text)))

    def check(self, case: TestCase) -> None:
        """Find out what can be found out before anything is touched.

        Args:
            case: the test case that is asked for.

        Raises:
            UsageError: something cannot be done.
        """
        arguments.check_inventory(self.inventory)
        arguments.trials(case, self.models, self.variants)
        if self.wheel is not None and wheel_source.parse(self.wheel).source == "file":
            read_wheel(Path(self.wheel))
        engines.engine(case.engine)
