"""End-to-end tests of disaggregated LLM serving. What is exported here is for programs; see docs/library.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyharness.case import TrialName
    from pyharness.deployment import Deployment, Service
    from pyharness.errors import UsageError
    from pyharness.exercise import Exchange
    from pyharness.library import Deployed, NotDeployed, deployed
    from pyharness.lifecycle import run_case
    from pyharness.options import Options
    from pyharness.results import Check, Failure, Report, Verdict

__all__ = [
    "Check",
    "Deployed",
    "Deployment",
    "Exchange",
    "Failure",
    "NotDeployed",
    "Options",
    "Report",
    "Service",
    "TrialName",
    "UsageError",
    "Verdict",
    "deployed",
    "run_case",
]

# Where each is: loaded when it is asked for, so that importing one module of this package does not load Ansible.
_HOMES = {
    "Check": "results",
    "Deployed": "library",
    "Deployment": "deployment",
    "Exchange": "exercise",
    "Failure": "results",
    "NotDeployed": "library",
    "Options": "options",
    "Report": "results",
    "Service": "deployment",
    "TrialName": "case",
    "UsageError": "errors",
    "Verdict": "results",
    "deployed": "library",
    "run_case": "lifecycle",
}


def __getattr__(name: str) -> Any:
    """Load what is exported when it is asked for."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return what is there, with what is exported."""
    return sorted({*globals(), *__all__})
