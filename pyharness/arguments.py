"""Arguments that verbs of the command line have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyharness import paths, redaction, yaml_text
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.case import TestCase, TrialName


# Of files that Ansible may take for an inventory in a folder; a program that prints one has any name or none.
_INVENTORY_SUFFIXES = {"", ".yml", ".yaml", ".json", ".ini", ".toml", ".py", ".sh"}


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


def add_choice_of_trials(to: argparse.ArgumentParser) -> None:
    """Add `--model` and `--variant`."""
    to.add_argument("--model", action="append", default=[], metavar="M", help="only this declared model; repeatable")
    to.add_argument("--variant", action="append", default=[], metavar="V", help="only this variant; repeatable")


def add_selection(to: argparse.ArgumentParser) -> None:
    """Add `--suite` and `-m`."""
    to.add_argument("--suite", metavar="NAME", help="the test cases of a suite (playbooks/vars/suites.yml), or all")
    to.add_argument(
        "-m",
        dest="markers",
        metavar="EXPRESSION",
        help="only test cases with these markers, such as 'e2e and gpu_0'; a stage takes those of earlier ones too",
    )


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
    try:
        there = path.exists()
        # Ansible looks into every folder below one that is none of inventories, however many there are.
        empty = path.is_dir() and not any(_may_hold_hosts(entry) for entry in path.iterdir())
    except OSError as error:  # a name that is too long, a folder that this user may not look into
        raise UsageError(f"-i {path}: {error.strerror}; name an inventory that can be read") from error
    if not there:
        known = sorted(f"inventories/{entry.name}" for entry in paths.INVENTORIES.iterdir() if entry.is_dir())
        raise UsageError(f"-i {path}: there is no such inventory; there are {', '.join(known)}")
    if empty:
        raise UsageError(f"-i {path}: there is no file with hosts in this folder; name one that has hosts.yml")


def _may_hold_hosts(path: Path) -> bool:
    return path.suffix in _INVENTORY_SUFFIXES and not path.name.startswith((".", "README")) and path.is_file()


def trials(case: TestCase, models: Sequence[str], variants: Sequence[str]) -> list[TrialName]:
    """Return the chosen trials of a test case, all that it declares if none is chosen.

    Raises:
        UsageError: a model or variant is not declared, or the two do not go together.
    """
    declared = [variant.name for variant in case.variants]
    for option, chosen, known in (("--model", models, case.models), ("--variant", variants, declared)):
        for name in chosen:
            if name not in known:
                there = f"declares {', '.join(known)}; name one of them" if known else "declares none"
                raise UsageError(f"{option} {name}: {case.test_case} {there}")
    chosen_trials = case.trials(models, variants)
    if not chosen_trials:
        raise UsageError(f"--variant {' '.join(variants)}: not with model {', '.join(models)} in {case.test_case}")
    return chosen_trials


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
        redaction.learn_variables({key: value})  # before it is read: what cannot be read is told
        try:
            result[key] = yaml_text.load(value)
        except ValueError as error:
            raise UsageError(f"-e {key}: the value is no YAML: {error}") from error
    redaction.learn_variables(result)
    return result
