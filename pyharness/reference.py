"""What one engine alone answers, by the method that a test case or its inventory names.

- ``transformers``: the same weights through transformers in float32, computed while provisioning (role `model`).
- ``single_engine``: one server of the engine under test without disaggregation, deployed before the case itself.
- ``recorded``: an answer kept in playbooks/references/, for models too large for the other two.
- ``pattern``: none; the answer has to match an expression that the test case gives (request.pattern).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyharness import exercise, paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyharness.case import TestCase
    from pyharness.deployment import Deployment
    from pyharness.engines.base import Engine

METHODS = ("transformers", "single_engine", "recorded", "pattern", "none")
REFERENCES = paths.PLAYBOOKS / "references"


def method(case: TestCase, variable: Callable[[str], Any]) -> str:
    """Return how the answer to compare with is found on an inventory, as playbooks/shared/case.yml does too.

    Args:
        case: the test case.
        variable: gives a variable of the inventory; None where there is none.

    Raises:
        UsageError: the inventory names no method.
    """
    references, general = variable("disagg_references") or {}, variable("disagg_reference")
    name = "disagg_references" if case.test_case in references else "disagg_reference"
    chosen = references.get(case.test_case) or (general if case.prompt else None) or case.reference
    if chosen not in METHODS:
        raise UsageError(f"{name}: {chosen!r} is not one of {', '.join(METHODS)}")
    return str(chosen)


def recorded(case: TestCase, model: str, directory: Path = REFERENCES) -> dict[str, Any]:
    """Read a recorded answer.

    Raises:
        UsageError: there is none, or it is of another prompt.
    """
    path = directory / case.test_case / f"{paths.slug(model)}.json"
    try:
        answer = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: there is no recorded answer for {model}; run once with disagg_reference: single_engine in the "
            "inventory and copy the reference from report.json"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read as a JSON object: {error}") from error
    if answer.get("prompt") != case.prompt or not isinstance(answer.get("text"), str):
        raise UsageError(f"{path}: has to hold prompt (the test case's own: {case.prompt!r}), revision and text")
    return answer


def same_revision(answer: dict[str, Any] | None, deployment: Deployment) -> None:
    """Check that a recorded answer is of the revision that is deployed.

    Raises:
        UsageError: it is of another one.
    """
    recorded_of, deployed = (answer or {}).get("revision"), deployment.served.revision
    if recorded_of != deployed:
        raise UsageError(
            f"the recorded answer of {deployment.served.name} is of revision {recorded_of}, and {deployed} is "
            "deployed; record it again, or set the model's revision in disagg_models"
        )


def ask_single_engine(deployment: Deployment, case: TestCase, engine: Engine) -> dict[str, Any] | None:
    """Ask a server that was deployed alone. Returns None if it gives no answer; then nothing can be compared."""
    request = case.asked
    exchange = exercise.post(deployment.entry + request.path, request.body, request.timeout_seconds)
    try:
        answer = engine.answer(exchange.json())
    except ValueError:
        return None
    if exchange.status != 200 or not answer.text.strip():
        return None
    return {"text": answer.text, "prompt_tokens": answer.prompt_tokens}
