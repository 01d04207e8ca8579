"""The files of a new test case: python -m pyharness new TEST_CASE.

They are those of another test case under the new name, so they pass lint and run at once. What the new case is to be
is then written into them: docs/adding-a-test-case.md.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from pyharness import arguments as common
from pyharness import case as cases
from pyharness import paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DEFAULT_MODEL = "test_1p1d_erdma"

_VERIFICATION = '''"""Verification of {name}: so far that of {like}."""

from __future__ import annotations

from pyharness.verification.{like} import CHECKS, exercise, verify

__all__ = ["CHECKS", "exercise", "verify"]
'''


def main(arguments: Sequence[str]) -> int:
    """Write the files, and say what comes next.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code.

    Raises:
        UsageError: the name will not do, or a file is there already. Then nothing has been written.
    """
    parser = common.parser("new", "Write the files of a new test case, to begin with those of another one.")
    parser.add_argument("test_case", metavar="TEST_CASE")
    parser.add_argument("--like", metavar="CASE", default=_DEFAULT_MODEL, help=f"default: {_DEFAULT_MODEL}")
    parser.add_argument("--title", help="what it tests, in a line")
    options = parser.parse_args(arguments)
    name, like = options.test_case, options.like
    written = files(name, like, options.title or f"Like {like}: say here what it tests")
    _write(written)
    for path in written:
        sys.stdout.write(f"wrote {path.relative_to(paths.PROJECT)}\n")
    sys.stdout.write(
        f"next: say in them what it tests (docs/adding-a-test-case.md), run it with the simulated engine\n"
        f"  python -m pyharness {name} -i inventories/simulator\n"
        f"and keep what it would do on real hosts for others to review\n"
        f"  python -m pyharness plan {name} -i inventories/a10 > tests/golden/plan_{name}_a10.txt\n"
    )
    return 0


def files(name: str, like: str, title: str) -> dict[Path, str]:
    """Return the files of a new test case.

    Args:
        name: the new one's name.
        like: the test case that it begins as.
        title: what it tests, in a line.

    Returns:
        by path what it holds.

    Raises:
        UsageError: the name will not do, or there is no test case to begin with.
    """
    if not re.fullmatch(rf"({'|'.join(cases.CASE_PREFIXES)})[a-z0-9_]+", name):
        begin = ", ".join(cases.CASE_PREFIXES)
        raise UsageError(f"new {name}: a test case's name is of a-z, 0-9 and _, and begins with {begin}")
    if not title or any(letter in title for letter in "\n\r"):
        raise UsageError("--title: has to be one line")
    cases.load(like)

    def copied(path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        return re.sub(rf"\b{re.escape(like)}\b", name, text)

    declaration = copied(paths.DECLARATIONS / f"{like}.yml")
    # What stands above the first key is about the other test case.
    declaration = re.sub(r"\A---\n(#.*\n)*", "---\n# What each key means: docs/adding-a-test-case.md\n", declaration)
    declaration = re.sub(r"^title:.*$", lambda _found: f"title: {_scalar(title)}", declaration, flags=re.MULTILINE)
    return {
        paths.DECLARATIONS / f"{name}.yml": declaration,
        paths.PLAYBOOKS / f"{name}.yml": copied(paths.PLAYBOOKS / f"{like}.yml"),
        paths.PROJECT / "pyharness" / "verification" / f"{name}.py": _VERIFICATION.format(name=name, like=like),
        paths.PROJECT / "tone_tests" / "scripts" / f"{name}.sh": copied(
            paths.PROJECT / "tone_tests" / "scripts" / f"{like}.sh"
        ),
    }


def _scalar(text: str) -> str:
    """Return a text as YAML takes it on one line, whatever is in it."""
    return (
        text
        if re.fullmatch(r"[A-Za-z][\w ,./()-]*", text)
        else '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'
    )


def _write(written: dict[Path, str]) -> None:
    """Write all of them or none."""
    there = next((path for path in written if path.exists()), None)
    if there is not None:
        raise UsageError(f"new: {there} is there already; choose another name, or edit it")
    done: list[Path] = []
    try:
        for path, text in written.items():
            done.append(path)
            path.write_text(text, encoding="utf-8")
            if path.suffix == ".sh":
                path.chmod(0o755)
    except OSError as error:
        for path in done:
            path.unlink(missing_ok=True)
        raise UsageError(f"new: {error.filename}: {error.strerror}; nothing has been written") from error
