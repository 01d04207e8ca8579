"""Arguments that verbs of the command line have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from pyharness import paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.case import TestCase


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message}; see: {self.prog} --help")


def parser(verb: str, description: str) -> Parser:
    """Return a parser for a verb.

    Args:
        verb: its name.
        description: what it does, in a sentence.
    """
    return Parser(prog=f"python -m pyharness {verb}", description=description, allow_abbrev=False)


def add_inventory(to: argparse.ArgumentParser) -> None:
    """Add `-i`."""
    to.add_argument("-i", "--inventory", type=Path, default=paths.DEFAULT_INVENTORY, help="default: inventories/local")


def add_choice_of_models(to: argparse.ArgumentParser) -> None:
    """Add `--model`."""
    to.add_argument("--model", action="append", default=[], metavar="M", help="only this declared model; repeatable")


def add_extra_vars(to: argparse.ArgumentParser) -> None:
    """Add `-e`."""
    to.add_argument(
        "-e",
        "--extra-vars",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a variable of the playbooks (YAML)",
    )


def check_inventory(path: Path) -> None:
    """Refuse an inventory that is not there.

    Raises:
        UsageError: it is not.
    """
    if not path.exists():
        known = sorted(f"inventories/{entry.name}" for entry in paths.INVENTORIES.iterdir() if entry.is_dir())
        raise UsageError(f"-i {path}: there is no such inventory; there are {', '.join(known)}")


def models(case: TestCase, chosen: Sequence[str]) -> list[str]:
    """Return the chosen models of a test case, all that it declares if none is chosen.

    Raises:
        UsageError: one is not declared.
    """
    for name in chosen:
        if name not in case.models:
            raise UsageError(f"--model {name}: {case.test_case} declares {', '.join(case.models)}; name one of them")
    return list(chosen or case.models)


def extra_vars(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the variables of `-e`.

    Args:
        pairs: each KEY=VALUE, the value in YAML.

    Raises:
        UsageError: one is not of that form.
    """
    result = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise UsageError(f"-e {pair}: has to be KEY=VALUE, with the value in YAML")
        try:
            result[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"-e {key}: the value is no YAML: {error}") from error
    return result
