"""Which test cases a run takes: by name, by suite, by markers."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from pyharness import case as cases
from pyharness import paths, yaml_text
from pyharness.errors import UsageError
from pyharness.stages import with_later

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

SUITES = paths.DECLARATIONS / "suites.yml"
ALL = "all"


def suites(path: Path | None = None) -> dict[str, list[str]]:
    """Read the suites: names of test cases in the order in which they run.

    Args:
        path: the file; default is playbooks/vars/suites.yml.

    Returns:
        by suite its test cases; in `all` each of them once, and those that are in no suite at the end.

    Raises:
        UsageError: the file is no mapping of names to lists, or it names what is not there.
    """
    path = path or SUITES
    try:
        document = yaml_text.load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    known = cases.names()
    if not isinstance(document, dict) or not all(
        isinstance(suite, str) and _is_list_of_words(entry) for suite, entry in document.items()
    ):
        raise UsageError(f"{path}: has to be a mapping of suites to lists of test cases")
    for suite, members in document.items():
        unknown = [name for name in members if name not in known]
        if unknown or suite == ALL:
            reason = f"{unknown[0]} is no test case" if unknown else f"{ALL} is made of the others"
            raise UsageError(f"{path}: {suite}: {reason}")
    ordered = [name for members in document.values() for name in members]
    return {**document, ALL: list(dict.fromkeys([*ordered, *known]))}


def _is_list_of_words(entry: Any) -> bool:
    return isinstance(entry, list) and all(isinstance(name, str) for name in entry)


def select(names: Sequence[str], suite: str | None, markers: str | None, models: Collection[str] = ()) -> list[str]:
    """Return the names of the test cases that a run takes, in its order.

    Args:
        names: test cases that were named; each counts as often as it is named.
        suite: a suite whose test cases are taken besides.
        markers: an expression over markers; of the others only what it holds for is taken, and of all test cases
            where nothing else says which. A test case that is marked for a stage counts for all later ones too.
        models: only test cases that declare one of these; empty takes all.

    Raises:
        UsageError: a name is not known, the expression is none, or nothing is left.
    """
    known = suites() if suite is not None or not names else {}
    if suite is not None and suite not in known:
        raise UsageError(f"--suite {suite}: there is no such suite; there are {', '.join(known)}")
    named = list(names) if suite is None and names else [*names, *known[suite or ALL]]
    holds = expression(markers) if markers is not None else None
    result = []
    for name in named:
        case = cases.load(name)
        # Who names a case and a model that do not go together is told so; from a suite it is a choice.
        fits = name in names or not models or bool(set(models) & set(case.models))
        if fits and (holds is None or holds.evaluate(with_later(case.markers))):
            result.append(name)
    if not result:
        asked = " ".join(
            part
            for part in (f"--suite {suite}" if suite else "", f"-m '{markers}'" if markers else "", *models)
            if part
        )
        raise UsageError(f"{asked}: no test case is left; see: python -m pyharness list")
    return result


class Expression:
    """An expression over markers, as pytest's -m takes it: names, and, or, not, brackets.

    Args:
        text: the expression.

    Raises:
        UsageError: it is none, or it has a name that is no marker of any test case.
    """

    def __init__(self, text: str) -> None:
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
            names = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
            self._value(self._tree, set())
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            told = f"-m {text!r}: has to be made of markers with and, or, not and brackets"
            raise UsageError(" ".join(told.split())) from error
        unknown = sorted(names - _known_markers())
        if unknown:
            there = ", ".join(sorted(_known_markers()))
            raise UsageError(f"-m {text!r}: {unknown[0]} is no marker of any test case; there are: {there}")

    def evaluate(self, markers: Collection[str]) -> bool:
        """Tell whether it holds for these markers."""
        return self._value(self._tree, markers)

    def _value(self, node: ast.expr, markers: Collection[str]) -> bool:
        if isinstance(node, ast.Name):
            return node.id in markers
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self._value(node.operand, markers)
        if isinstance(node, ast.BoolOp):
            values = [self._value(part, markers) for part in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        message = f"{type(node).__name__} has no place in an expression over markers"
        raise ValueError(message)


def expression(text: str) -> Expression:
    """Return the expression that a text is. See `Expression`."""
    return Expression(re.sub(r"\s+", " ", text))


@cache
def _known_markers() -> frozenset[str]:
    declared = {marker for name in cases.names() for marker in cases.load(name).markers}
    return frozenset({*declared, *cases.LIFECYCLES, *cases.TYPES, *cases.HARDWARE})
