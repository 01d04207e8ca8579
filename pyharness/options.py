"""What a run is asked to do, and what can be found out about it before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import engines, paths
from pyharness.errors import UsageError
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
        wheel: a wheel's path or a version; None takes the inventory's.
        models: only these of the declared models; empty takes all.
        keep: leave the last deployment up.
        extra_vars: further variables for the playbooks.
        tell: told of every step, for a person.
    """

    test_case: str
    inventory: Path = paths.DEFAULT_INVENTORY
    results: Path = Path("run")
    wheel: str | None = None
    models: tuple[str, ...] = ()
    keep: bool = False
    extra_vars: dict[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _text: None

    def check(self, case: TestCase) -> None:
        """Find out what can be found out before anything is touched.

        Args:
            case: the test case that is asked for.

        Raises:
            UsageError: something cannot be done.
        """
        if not self.inventory.exists():
            known = ", ".join(
                sorted(f"inventories/{path.name}" for path in paths.INVENTORIES.iterdir() if path.is_dir())
            )
            raise UsageError(f"-i {self.inventory}: there is no such inventory; there are {known}")
        for name in self.models:
            if name not in case.models:
                raise UsageError(
                    f"--model {name}: {case.test_case} declares {', '.join(case.models)}; name one of them"
                )
        if self.wheel is not None and self.wheel.endswith(".whl"):
            read_wheel(Path(self.wheel))
        elif self.wheel is not None and ("/" in self.wheel or not self.wheel[:1].isdigit()):
            raise UsageError(
                f"--wheel {self.wheel}: this is neither a file ending in .whl nor a version such as 0.3.13"
            )
        engines.engine(case.engine)
